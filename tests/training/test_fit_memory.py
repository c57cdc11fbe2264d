"""``training.grad_checkpoint=auto``: memory is measured, and the fastest way that fits is chosen."""

import dataclasses
import os

import mlx.core as mx
import pytest

from tspin_mlx.base import machine
from tspin_mlx.base.errors import ResourcesError, SetupError
from tspin_mlx.jobs import supervisor
from tspin_mlx.jobs.control import resume
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models import load
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import BatchSizes, make_plan
from tspin_mlx.recipe.schema import LoraSection, ModelSection
from tspin_mlx.runs.run import MEASURED, Decision, Run
from tspin_mlx.training import fit_memory
from tspin_mlx.training.fit_memory import measured_sizes, settle_memory, triplet_bytes

BASE_BYTES = 1000


def plan(*overrides):
    recipe = parse_recipe("data: {train: t.jsonl}", "r.yaml", overrides)
    return make_plan(recipe, {"train": 8, "validation": 4, "test": 0})


def prompts(*lengths):
    answer = Response((5,) * 6, "")
    return [Prompt(str(i), tuple(range(2, 2 + n)), "", answer, "") for i, n in enumerate(lengths)]


@pytest.fixture(scope="module")
def policy(tiny_model):
    return load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=2), 0)


@pytest.fixture
def weighed(monkeypatch):
    """A triplet takes 100 bytes, or 20 with layers computed again, beside a model of 1000."""
    monkeypatch.setattr(fit_memory, "triplet_bytes", lambda *_: 20 if _[-1] else 100)
    monkeypatch.setattr(fit_memory, "resting_bytes", lambda policy: BASE_BYTES)
    monkeypatch.setattr(fit_memory, "can_grad_checkpoint", lambda policy: True)


@pytest.mark.parametrize(
    ("room", "grad_checkpoint", "at_once"),
    [(400, False, 4), (399, False, 2), (199, False, 1), (99, True, 4), (79, True, 2), (0, True, 1)],
)
def test_the_fastest_way_that_fits_into_four_fifths_of_the_budget(weighed, room, grad_checkpoint, at_once):
    sizes, expected = measured_sizes(None, plan(), prompts(4), budget=(BASE_BYTES + room + 0.5) * 5 / 4)
    assert sizes == BatchSizes(grad_checkpoint, at_once, 32)
    assert expected == BASE_BYTES + at_once * (20 if grad_checkpoint else 100)


def test_layers_that_cannot_be_computed_again_are_not(weighed, monkeypatch):
    monkeypatch.setattr(fit_memory, "can_grad_checkpoint", lambda policy: False)
    sizes, expected = measured_sizes(None, plan(), prompts(4), budget=(BASE_BYTES + 99.5) * 5 / 4)
    assert (sizes, expected) == (BatchSizes(False, 1, 32), BASE_BYTES + 100)
    with pytest.raises(SetupError, match="gradient checkpointing does not work with this model"):
        settle_memory(FakeRun(), plan("training.grad_checkpoint=true"), None, None)
    halved = plan().sizes.halved()  # after a failure, by a process that has no model
    assert settle_memory(FakeRun(), plan().with_sizes(halved), None, None).sizes == dataclasses.replace(
        halved, grad_checkpoint=False
    )


def test_a_prompt_that_each_response_brings_weighs_more():
    phase = plan().train_phases[-1]
    long_answer, long_prompt = (dataclasses.replace(prompts(1)[0], tokens=(2,) * a, annotated=Response((3,) * b, ""))
                                for a, b in ((100, 1500), (1400, 100)))  # fmt: skip
    for shared, expected in ((True, long_answer), (False, long_prompt)):
        assert fit_memory.largest_prompt(phase, [long_answer, long_prompt], shared) is expected


def test_a_triplet_is_weighed_at_a_quarter_and_half_of_its_length(policy, monkeypatch):
    seen, shared = [], []

    def peak_bytes(trainer, batch):
        [(prompt, responses)] = batch
        seen.append((len(prompt.tokens), [len(response.tokens) for response in responses]))
        shared.append(trainer.policy.scorer.shares)
        share = len(prompt.tokens) / 40
        return 100 * share + 60 * share**2

    monkeypatch.setattr(fit_memory.Trainer, "peak_bytes", peak_bytes)
    phase = plan().train_phases[-1]
    assert triplet_bytes(policy, phase, prompts(3, 40, 8), 16, False) == 160  # 100 x + 60 x^2 at x = 1
    assert seen == [(10, [1, 4, 4]), (20, [3, 8, 8])]
    monkeypatch.setattr(type(policy.scorer), "longest_shared", 54)  # a whole one has 40 + 16 - 1, and does not share
    assert triplet_bytes(policy, phase, prompts(3, 40, 8), 16, False) == 160
    assert shared == [True, True, False, False] and policy.scorer.shares


def test_beside_the_gradients_there_are_model_optimiser_and_adapter(policy):
    adapter = sum(value.nbytes for value in policy.adapter().values())
    assert adapter > 0 and fit_memory.resting_bytes(policy) == fit_memory.mx.get_active_memory() + 4 * adapter


@pytest.mark.parametrize(("kind", "responses"), [("warmup", 1), ("train", 3)])
def test_the_phase_decides_how_many_responses_there_are(policy, kind, responses):
    phases = [phase for phase in plan("warmup.epochs=1").phases if phase.kind == kind]
    assert len(fit_memory._triplet(phases[-1], prompts(8)[0], 16, 0.5)[1]) == responses


def test_more_tokens_and_kept_activations_take_more(policy):
    phase = plan().train_phases[-1]
    short, long = (triplet_bytes(policy, phase, prompts(n), 32, False) for n in (60, 240))
    assert 0 < short < long
    # of so few layers the activations weigh something only while attention's squares are small
    assert triplet_bytes(policy, phase, prompts(60), 32, True) < short


class FakeRun:
    def __init__(self):
        self.made = []

    def prompts(self):
        return type("Splits", (), {"train": prompts(4)})()

    def decide(self, reason, sizes):
        self.made.append(Decision(reason, sizes))


@pytest.mark.parametrize(("budget", "decided", "told"), [(10_000, (False, 4), 0), (1_300, (True, 2), 1)])
def test_the_decision_is_kept_and_reported_if_it_is_less_than_asked_for(weighed, monkeypatch, budget, decided, told):
    monkeypatch.setattr(fit_memory, "memory_budget", lambda: budget)
    run, warnings = FakeRun(), []
    made = settle_memory(run, plan(), None, lambda kind, **fields: warnings.append((kind, fields["message"])))
    assert [(decision.reason, decision.sizes) for decision in run.made] == [(MEASURED, made.sizes)]
    assert made.sizes == BatchSizes(*decided, 32)
    assert [kind for kind, _ in warnings] == ["warning"] * told


def test_a_warning_says_that_nothing_fits(weighed, monkeypatch):
    monkeypatch.setattr(fit_memory, "memory_budget", lambda: 100)
    told = []
    settle_memory(FakeRun(), plan(), None, lambda kind, **fields: told.append(fields["message"]))
    assert any(message.startswith("memory may run out: ") for message in told)


def test_weights_that_are_larger_than_the_memory_are_not_loaded(tiny_model, policy, monkeypatch):
    stored = sum(value.nbytes for value in mx.load(str(tiny_model / "model.safetensors")).values())
    adapter = sum(value.nbytes for value in policy.adapter().values())
    monkeypatch.setattr(load, "memory_budget", lambda: stored + adapter)
    load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=2), 0)
    monkeypatch.setattr(load, "memory_budget", lambda: stored - 1)
    with pytest.raises(ResourcesError, match="the model's weights need") as caught:
        load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=2), 0)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("overrides", [["training.grad_checkpoint=false"], ["training.grad_checkpoint=true"]])
def test_nothing_is_measured_where_the_recipe_has_decided(overrides, policy):
    made = plan(*overrides)
    assert settle_memory(None, made, policy, None) is made


def test_runs_at_once_share_the_memory(monkeypatch, small_run):
    whole, started = machine.memory_budget(), []

    class Popen:
        pid = os.getpid()

        def __init__(self, command, env, **options):
            started.append(env)

    monkeypatch.setattr(supervisor.subprocess, "Popen", Popen)
    resume(Run(small_run), shared_by=3)
    resume(Run(small_run))
    monkeypatch.setattr(os, "environ", started[0])
    assert machine.memory_budget() == whole // 3
    monkeypatch.setattr(os, "environ", started[1])
    assert machine.memory_budget() == whole


def test_memory_that_we_hold_on_a_cuda_device_is_ours_to_use(monkeypatch):
    import mlx.core as mx

    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    monkeypatch.setattr(mx.cuda, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"free_memory": 100})
    monkeypatch.setattr(mx, "get_active_memory", lambda: 40)
    monkeypatch.setattr(mx, "get_cache_memory", lambda: 10)
    assert machine.memory_budget() == 120
