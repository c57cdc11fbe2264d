"""The whole loop on a tiny llama: what it writes, that it repeats itself exactly, and that it goes on."""

import json
import math
import shutil
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load

from tests.conftest import make_small_run, save_tiny_model
from tests.digests import adapter_digest
from tspin_mlx import tspin
from tspin_mlx.base.errors import BusyError, DamagedError, SetupError, Stopped, StorageError, UsageError
from tspin_mlx.base.stop import Stop
from tspin_mlx.engine import engine
from tspin_mlx.engine.worker import work
from tspin_mlx.evaluation import guard
from tspin_mlx.jobs.launch import prepare
from tspin_mlx.method.triplets import triplet_from_row
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.policy_names import BASE, INITIAL
from tspin_mlx.runs.event_log import read_events
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.state import state_of
from tspin_mlx.runs.store import Store

RECIPE = """
model: {model}
lora: {{rank: 4}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
generation: {{max_tokens: 12, batch_size: 4, shard_tokens: 120}}
objective: {{alpha: 0.5, nll_weight: 0.5}}
warmup: {{epochs: 1, learning_rate: 0.01}}
training: {{iterations: 2, epochs: 1, batch_size: 4, micro_batch_size: 2, learning_rate: 0.01}}
evaluation: {{metrics: [exact_match, json_valid], best: nll, samples: 1}}
run: {{seed: 3}}
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, tiny_model):
    """A recipe with its data."""
    folder = tmp_path_factory.mktemp("workshop")
    for name, count in (("train", 8), ("validation", 4), ("test", 3)):
        rows = [{"prompt": f"{name} {i}", "response": f"[{i}]"} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(RECIPE.format(model=tiny_model))
    return folder


def launched(workshop, folder, *overrides):
    source = find_recipe(str(workshop / "task.yaml"))
    return prepare(parse_source(source, [f"run.folder={folder}", *overrides]), source)


def started(launch):
    events = []
    work(launch.run, events.append)
    return events


@pytest.fixture(scope="module")
def finished(workshop, tmp_path_factory):
    """A finished run and its events."""
    launch = launched(workshop, tmp_path_factory.mktemp("runs"))
    return launch, started(launch)


def digests(run):
    folders = sorted(run.path.glob("**/adapter"))
    return {str(folder.relative_to(run.path)): adapter_digest(folder) for folder in folders}


def results(run):
    """Everything a run found out, without times."""
    files = [*run.path.glob("**/*.json"), *run.path.glob("**/*.jsonl")]
    kept = [
        f
        for f in files
        if f.name not in ("events.jsonl", "run.json", "manifest.jsonl") and "adapter" not in f.parent.name
    ]
    return {str(f.relative_to(run.path)): f.read_text() for f in kept}


def test_every_phase_leaves_its_target(finished):
    launch, _ = finished
    assert launch.run.is_finished
    found = {str(path.relative_to(launch.run.path)) for path in launch.run.path.glob("**/*")}
    assert {
        "run.json", "recipe.yaml", "plan.json", "prompts.jsonl", "events.jsonl", "base/eval.json",
        "initial/adapter/adapters.safetensors", "initial/adapter/adapter_config.json", "initial/eval.json",
        "iterations/000/proto_synthetic/shard-0000.jsonl", "iterations/000/proto_synthetic/shard-0002.jsonl",
        "iterations/000/triplets.jsonl", "iterations/000/adapter/adapters.safetensors", "iterations/000/eval.json",
        "iterations/001/synthetic/shard-0000.jsonl", "iterations/001/triplets.jsonl", "result.json", "test.json",
    } <= found  # fmt: skip
    assert not [name for name in found if "partial" in name]


def test_triplets_are_what_was_sampled(finished):
    run = finished[0].run
    first = [triplet_from_row(row) for row in run.store.read_jsonl("iterations/000/triplets.jsonl")]
    second = [triplet_from_row(row) for row in run.store.read_jsonl("iterations/001/triplets.jsonl")]
    assert [t.prompt for t in first] == list(run.prompts().train) == [t.prompt for t in second]
    # Iteration 0: one sample, used as y', and no historical term. Later: that sample is y0.
    assert all(t.proto_synthetic is None for t in first)
    assert [t.proto_synthetic for t in second] == [t.synthetic for t in first]
    assert [t.synthetic for t in second] != [t.synthetic for t in first]


def test_iteration_0_has_no_historical_advantage_and_later_ones_have(finished):
    steps = [event for event in finished[1] if event["kind"] == "step" and event["iteration"] is not None]
    assert {event["iteration"]: "advantage/historical" in event for event in steps} == {0: False, 1: True}
    assert all("advantage/current" in event for event in steps)


def test_the_best_policy_is_chosen_among_all_that_were_measured(finished):
    run = finished[0].run
    result = run.result()
    assert set(result["candidates"]) == {BASE, INITIAL, "iterations/000", "iterations/001"}
    assert result["value"] == min(result["candidates"].values())
    assert (run.path / "best").resolve() == (run.path / result["best"] / "adapter").resolve()
    assert set(run.test()) == {BASE, INITIAL, result["best"]}


def test_held_out_advantages_use_the_answers_of_the_policies_before(finished):
    evaluations = finished[0].run.evaluations()
    assert "advantage_current" not in evaluations[BASE]["metrics"]
    assert evaluations[INITIAL]["metrics"]["advantage_historical"] == 0
    assert evaluations["iterations/000"]["metrics"]["advantage_historical"] == 0
    initial, first = (evaluations[name]["responses"] for name in (INITIAL, "iterations/000"))
    if initial != first:
        assert evaluations["iterations/001"]["metrics"]["advantage_historical"] != 0


def test_the_saved_adapter_is_the_policy_that_was_evaluated(finished, tiny_model):
    """mlx-lm with the adapter gives the likelihood that the evaluation wrote down."""
    run = finished[0].run
    model, _ = load(str(tiny_model), adapter_path=str(run.path / "iterations/001/adapter"))
    total, tokens = 0.0, 0
    for prompt in run.prompts().validation:
        ids = mx.array([[*prompt.tokens, *prompt.annotated.tokens]])
        logits = model(ids[:, :-1])
        logprobs = (logits - mx.logsumexp(logits, axis=-1, keepdims=True))[0, len(prompt.tokens) - 1 :]
        total += mx.take_along_axis(logprobs, mx.array(prompt.annotated.tokens)[:, None], axis=-1).sum().item()
        tokens += len(prompt.annotated.tokens)
    nll = run.evaluations()["iterations/001"]["metrics"]["nll"]
    assert nll == pytest.approx(-total / tokens, rel=1e-5)


def test_the_same_seed_gives_the_same_run(finished, workshop, tmp_path):
    launch = launched(workshop, tmp_path)
    started(launch)
    assert digests(launch.run) == digests(finished[0].run)
    again, first = results(launch.run), results(finished[0].run)
    assert again.keys() == first.keys()
    # Times and the folder's name aside, every file is the same to the byte.
    for name in first.keys() - {"plan.json"}:
        assert again[name] == first[name], name


def test_another_seed_gives_another_run(finished, workshop, tmp_path):
    launch = launched(workshop, tmp_path, "run.seed=4")
    started(launch)
    assert digests(launch.run)["iterations/001/adapter"] != digests(finished[0].run)["iterations/001/adapter"]


@pytest.mark.parametrize("kind", ["warmup", "generate", "pair", "train", "evaluate", "choose", "test", "test_best"])
def test_a_run_that_was_interrupted_goes_on_and_ends_the_same(finished, workshop, tmp_path, monkeypatch, kind):
    class PulledPlugError(Exception):
        pass

    def pull_the_plug(context, phase):
        raise PulledPlugError

    launch = launched(workshop, tmp_path)
    with monkeypatch.context() as patched, pytest.raises(PulledPlugError):
        table = engine._TRAIN if kind in engine._TRAIN else engine._OTHERS
        patched.setitem(table, kind, pull_the_plug)
        started(launch)
    assert not launch.run.is_finished
    done_before = {p.target for p in launch.run.outline.phases if (launch.run.path / p.target).exists()}
    events = started(launched(workshop, tmp_path))
    repeated = {event["phase"] for event in events if event["kind"] == "phase_started"} & done_before
    assert not repeated
    assert digests(launch.run) == digests(finished[0].run)


def test_complete_shards_are_kept(finished, workshop, tmp_path, monkeypatch):
    class PulledPlugError(Exception):
        pass

    calls = []
    generate = tspin.generate

    def twice(*args):
        calls.append(len(args[1]))
        if len(calls) == 2:
            raise PulledPlugError
        return generate(*args)

    launch = launched(workshop, tmp_path)
    with monkeypatch.context() as patched, pytest.raises(PulledPlugError):
        patched.setattr(tspin, "generate", twice)
        started(launch)
    calls.clear()

    def counted(*args):
        calls.append(len(args[1]))
        return generate(*args)

    monkeypatch.setattr(tspin, "generate", counted)
    started(launched(workshop, tmp_path))
    assert calls[:2] == [3, 2]  # of shards of 3, 3 and 2 prompts the first was there already
    assert digests(launch.run) == digests(finished[0].run)


def test_a_finished_run_loads_no_model_and_does_nothing(finished, workshop):
    launch, _ = finished
    before = digests(launch.run)
    events = started(launched(workshop, launch.run.path.parent))
    assert [event["kind"] for event in events] == ["run_started", "run_finished"]
    assert digests(launch.run) == before


def test_a_run_is_not_continued_with_other_settings(finished, workshop):
    with pytest.raises(UsageError, match=r"objective.beta  0.1 → 0.5"):
        launched(workshop, finished[0].run.path.parent, "objective.beta=0.5")


def test_a_run_is_not_continued_with_other_data(finished, workshop, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(workshop, other)
    with (other / "train.jsonl").open("a") as file:
        file.write('{"prompt": "one more", "response": "yes"}\n')
    with pytest.raises(UsageError, match="data files have changed"):
        launched(other, finished[0].run.path.parent)


def test_without_a_warm_up_the_initial_policy_is_the_model_itself(workshop, tmp_path, tiny_model):
    launch = launched(workshop, tmp_path, "warmup.epochs=0", "training.iterations=1")
    started(launch)
    assert BASE not in launch.run.evaluations()
    plain, _ = load(str(tiny_model))
    same, _ = load(str(tiny_model), adapter_path=str(launch.run.path / "initial/adapter"))
    probe = mx.array([[5, 6, 7]])
    np.testing.assert_allclose(np.array(same(probe)), np.array(plain(probe)), rtol=1e-5, atol=1e-5)


def test_beta_0_everywhere_trains_on_pairs(workshop, tmp_path):
    launch = launched(workshop, tmp_path, "objective.beta=0")
    events = started(launch)
    assert not [event for event in events if "advantage/historical" in event]
    rows = launch.run.store.read_jsonl("iterations/001/triplets.jsonl")
    assert all(row["proto_synthetic"] is None for row in rows)


def test_self_play_on_part_of_the_prompts(workshop, tmp_path):
    launch = launched(workshop, tmp_path, "generation.prompts=5", "training.iterations=1")
    started(launch)
    rows = launch.run.store.read_jsonl("iterations/000/triplets.jsonl")
    assert [row["prompt"]["id"] for row in rows] == [p.id for p in launch.run.prompts().train[:5]]
    assert launch.run.plan().phases[2].train.steps == 2  # the warm-up sees all 8


RUINOUS = ("training.learning_rate=3", "objective.nll_weight=0", "guard.nll_rise=0.01")


@pytest.mark.parametrize("told", [True, False])
def test_where_the_contrast_is_saturated_from_the_start_that_is_told_once(workshop, tmp_path, monkeypatch, told):
    monkeypatch.setattr(guard, "_SATURATED", math.inf if told else -math.inf)
    launch = launched(workshop, tmp_path, "warmup.epochs=0", "training.iterations=2")
    warnings = [event["message"] for event in started(launch) if event["kind"] == "warning"]
    assert len([text for text in warnings if "warm up first" in text]) == told


def test_that_there_is_nothing_left_to_learn_is_told(workshop, tmp_path, monkeypatch):
    def as_the_expert(policy, prompts, seeds, decoding, on_progress):
        return [prompt.annotated for prompt in prompts]

    monkeypatch.setattr(tspin, "generate", as_the_expert)
    launch = launched(workshop, tmp_path, "training.iterations=2")
    events = started(launch)
    warnings = [event["message"] for event in events if event["kind"] == "warning"]
    found = [text for text in warnings if text.startswith("100.0% of the sampled answers are the expert's own")]
    assert (len(found), len([event for event in events if event["kind"] == "generated"])) == (2, 2)


def test_signs_of_collapse_are_told_and_best_leads_to_the_start(workshop, tmp_path):
    launch = launched(workshop, tmp_path, *RUINOUS, "training.iterations=1")
    warnings = [event["message"] for event in started(launch) if event["kind"] == "warning"]
    assert [message for message in warnings if message.startswith("iteration 0 shows signs of collapse: the expert's")]
    assert launch.run.evaluations()["iterations/000"]["signs_of_collapse"]
    assert launch.run.result()["best"] == INITIAL
    assert (launch.run.path / "best").readlink() == Path("initial/adapter")


def test_a_collapse_can_end_self_play(workshop, tmp_path):
    launch = launched(workshop, tmp_path, *RUINOUS, "guard.stop=true")
    started(launch)
    assert launch.run.is_finished
    assert set(launch.run.result()["candidates"]) == {BASE, INITIAL, "iterations/000"}
    assert not (launch.run.path / "iterations/001").exists()
    assert set(launch.run.test()) == {BASE, INITIAL}
    assert [event["kind"] for event in started(launch)] == ["run_started", "run_finished"]


@pytest.mark.parametrize("grad_checkpoint", ["false", "true"])
def test_heads_of_a_size_for_which_gpus_have_kernels(tmp_path, grad_checkpoint):
    save_tiny_model(tmp_path, head_dim=64)  # on a Mac attention for few queries is another kernel, without a gradient
    run = Run(make_small_run(tmp_path, tmp_path, f"training.grad_checkpoint={grad_checkpoint}"))
    assert run.is_finished


def test_if_everything_makes_it_worse_best_is_the_untouched_model(workshop, tmp_path, tiny_model):
    launch = launched(workshop, tmp_path, "warmup.learning_rate=30", "training.iterations=0")
    started(launch)
    assert launch.run.result()["best"] == BASE
    plain, _ = load(str(tiny_model))
    same, _ = load(str(tiny_model), adapter_path=str(launch.run.path / "best"))
    probe = mx.array([[5, 6, 7]])
    np.testing.assert_allclose(np.array(same(probe)), np.array(plain(probe)), rtol=1e-5, atol=1e-5)


def test_a_fork_takes_over_what_is_still_valid_and_ends_as_if_it_had_made_it(finished, workshop, tmp_path):
    source = find_recipe(str(workshop / "task.yaml"))
    changed = [f"run.folder={tmp_path}", "objective.beta=0.7", "run.name=new"]
    origin = finished[0].run
    fork = prepare(parse_source(source, changed), source, origin=origin)
    reused = fork.run.about["forked_from"]["reused"]
    assert "iterations/001/triplets.jsonl" in reused  # the first iteration has no historical term
    assert "iterations/001/adapter" not in reused
    events = started(fork)
    assert not {event["phase"] for event in events if event["kind"] == "phase_started"} & set(reused)
    afresh = launched(workshop, tmp_path / "afresh", "objective.beta=0.7")
    started(afresh)
    assert digests(fork.run) == digests(afresh.run)
    assert digests(fork.run) != digests(origin)
    assert fork.run.result() == afresh.run.result() and fork.run.test() == afresh.run.test()


def test_a_fork_does_not_take_over_what_is_damaged(finished, workshop, tmp_path):
    origin = tmp_path / "origin"
    shutil.copytree(finished[0].run.path, origin, symlinks=True)
    with (origin / "initial/adapter/adapters.safetensors").open("ab") as file:
        file.write(b"x")
    source = find_recipe(str(workshop / "task.yaml"))
    recipe = parse_source(source, [f"run.folder={tmp_path}", "run.name=new"])
    fork = prepare(recipe, source, origin=Run(origin))
    assert "initial/adapter" not in fork.run.about["forked_from"]["reused"]
    started(fork)
    assert digests(fork.run) == digests(finished[0].run)


@pytest.fixture
def stopped_at(workshop, tmp_path):
    """A run that was stopped when it had emitted an event of some kind for the n-th time."""

    def stop_at(kind, count, *overrides):
        launch = launched(workshop, tmp_path, "run.checkpoint_seconds=0", *overrides)
        stop, seen = Stop(), []

        def listen(event):
            seen.extend([event] * (event["kind"] == kind))
            if len(seen) == count:
                stop.request("step")

        with pytest.raises(Stopped):
            work(launch.run, listen, stop)
        return launch

    return stop_at


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_a_stopped_run_makes_no_step_twice(finished, stopped_at):
    launch = stopped_at("step", 1, "warmup.epochs=1")
    assert list((launch.run.path / "initial/checkpoints").iterdir())
    events = started(launch)
    assert next(event["step"] for event in events if event["kind"] == "step") == 2
    assert digests(launch.run) == digests(finished[0].run)
    assert not (launch.run.path / "initial/checkpoints").exists()


def test_scoring_tells_how_far_it_is_and_hears_a_request_to_stop(finished, workshop, tmp_path, monkeypatch):
    monkeypatch.setattr("tspin_mlx.engine.context._PROGRESS_EVERY", 0)
    monkeypatch.setattr("tspin_mlx.scoring.logprobs._EXAMPLES_AT_ONCE", 1)
    launch, stop, told = launched(workshop, tmp_path), Stop(), []

    def listen(event):
        if event["kind"] == "progress":
            told.append((event["done"], event["total"]))
            if event["done"] == 3:
                stop.request("step")

    with pytest.raises(Stopped):
        work(launch.run, listen, stop)
    assert told[-3:] == [(2, 4), (2, 4), (3, 4)]  # four prompts are answered, one is scored, two are
    assert not launch.run.evaluations()
    started(launch)
    assert digests(launch.run) == digests(finished[0].run)


def test_a_damaged_checkpoint_is_left_out_and_the_one_before_it_used(finished, workshop, stopped_at):
    launch = stopped_at("step", 3, "training.epochs=2")
    checkpoints = sorted((launch.run.path / "iterations/000/checkpoints").iterdir())
    assert len(checkpoints) == 1
    damage(checkpoints[0] / "optimizer.safetensors")
    events = started(launch)
    assert next(event["message"] for event in events if event["kind"] == "warning").startswith(
        "iterations/000/checkpoints/step-000001/optimizer.safetensors is damaged"
    )
    assert next(event["step"] for event in events if event["kind"] == "step") == 1
    afresh = launched(workshop, launch.run.path.parent / "afresh", "training.epochs=2")
    started(afresh)
    assert digests(launch.run) == digests(afresh.run)


def test_a_damaged_shard_is_sampled_again(finished, workshop, tmp_path, monkeypatch):
    launch = launched(workshop, tmp_path)
    commit = launch.run.store.commit_folder

    def no_more(aside, name):
        raise KeyError

    monkeypatch.setattr(launch.run.store, "commit_folder", no_more)
    with pytest.raises(KeyError):
        started(launch)
    monkeypatch.setattr(launch.run.store, "commit_folder", commit)
    damage(launch.run.path / "iterations/000/.proto_synthetic.partial/shard-0001.jsonl")
    events = started(launch)
    assert "shard-0001.jsonl is damaged" in next(event for event in events if event["kind"] == "warning")["message"]
    assert digests(launch.run) == digests(finished[0].run)


def test_a_damaged_result_is_refused_and_made_again_when_it_is_removed(finished, workshop, tmp_path):
    path = tmp_path / "task"
    shutil.copytree(finished[0].run.path, path, symlinks=True)
    for name in ("result.json", "test.json"):
        (path / name).unlink()
    damage(path / "iterations/000/adapter/adapters.safetensors")
    with pytest.raises(DamagedError, match=r"iterations/000/adapter/adapters.safetensors") as caught:
        work(Run(path))
    assert "remove it and resume" in caught.value.hint
    shutil.rmtree(path / "iterations/000/adapter")
    work(Run(path))
    assert digests(Run(path)) == digests(finished[0].run)


def test_a_model_that_has_changed_under_a_run_is_refused(workshop, tmp_path, tiny_model):
    other = tmp_path / "model"
    shutil.copytree(tiny_model, other)
    launch = launched(workshop, tmp_path, f"model={other}")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))
    with pytest.raises(SetupError, match="files have changed since the run was created"):
        work(launch.run)


def test_a_run_that_would_not_fit_on_the_disk_does_not_begin(workshop, tmp_path, monkeypatch):
    launch = launched(workshop, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(StorageError, match=r"1 MB are free, but the run may need 1\d MB"):
            work(launch.run)
    work(launch.run)
    assert launch.run.is_finished


def steps_of(events):
    return [event for event in events if event["kind"] == "step" and event["iteration"] is not None]


def test_spin_starts_each_iteration_at_no_reward(workshop, tmp_path):
    run = launched(workshop, tmp_path, "objective.kind=spin", "objective.nll_weight=0", "training.batch_size=8")
    steps = steps_of(started(run))  # one step per iteration: the policy is still its own reference
    assert [event["iteration"] for event in steps] == [0, 1]
    assert [event["loss"] for event in steps] == pytest.approx([np.log(2)] * 2, abs=1e-5)
    assert [event["rewards/margins"] for event in steps] == pytest.approx([0, 0], abs=1e-5)
    assert all(abs(event["advantage/current"]) > 0.1 for event in steps)
    references, scores = (
        [row for i in range(2) for row in run.run.store.read_jsonl(f"iterations/{i:03}/{file}")]
        for file in ("reference.jsonl", "scores.jsonl")
    )
    for reference, score in zip(references, scores, strict=True):
        assert reference["id"] == score["id"]
        assert reference["logps"] == pytest.approx([score["annotated_logp"], score["synthetic_logp"]], rel=1e-4)


def test_t_spin_with_reference_has_a_historical_term_of_gains(workshop, tmp_path):
    options = ("objective.kind=tspin_with_reference", "objective.nll_weight=0", "training.batch_size=8")
    steps = steps_of(started(launched(workshop, tmp_path, *options)))
    assert [event["loss"] for event in steps] == pytest.approx([np.log(2), 1.1 * np.log(2)], abs=1e-5)


def test_supervised_iterations_go_through_to_the_end(workshop, tmp_path):
    launch = launched(workshop, tmp_path, "objective.kind=sft", "training.epochs=4")
    steps = steps_of(started(launch))
    assert launch.run.is_finished
    assert steps[-1]["nll"] < steps[0]["nll"]
    assert not any(name.startswith(("advantage", "rewards")) for event in steps for name in event)
    assert not list(launch.run.path.glob("iterations/*/*.jsonl"))


def test_only_the_beginning_of_a_difference_is_scored(workshop, tmp_path):
    steps = steps_of(started(launched(workshop, tmp_path, "objective.contrast_tokens=1", "training.iterations=1")))
    whole = steps_of(started(launched(workshop, tmp_path / "whole", "training.iterations=1")))
    assert all(few["length/rejected"] < all_["length/rejected"] for few, all_ in zip(steps, whole, strict=True))
    assert [few["length/chosen"] for few in steps] == [all_["length/chosen"] for all_ in whole]


def test_the_warm_up_sees_the_first_examples_only(workshop, tmp_path):
    def warmed_up(*overrides):
        launch = launched(workshop, tmp_path / str(len(overrides)), *overrides, "training.iterations=0")
        started(launch)
        return launch.run

    whole, half = warmed_up(), warmed_up("warmup.prompts=4")
    steps = [event for event in read_events(half.events_path) if event["kind"] == "step"]
    assert len(steps) == 1
    assert digests(half)["initial/adapter"] != digests(whole)["initial/adapter"]


def test_while_it_works_in_this_process_a_run_is_locked(workshop, tmp_path):
    run, seen = launched(workshop, tmp_path, "training.iterations=1").run, []

    def listener(event):
        if event["kind"] == "phase_started" and not seen:
            seen.append((is_held(run.path), state_of(run, time.time())))
            with pytest.raises(BusyError):
                work(run)

    work(run, listener)
    assert seen == [(True, "running")]
    assert not is_held(run.path)


@pytest.mark.parametrize("stop", ["false", "true"])
def test_files_are_read_in_proportion_to_the_iterations(workshop, tmp_path, monkeypatch, stop):
    """An evaluation reads as much after many iterations as after few."""
    reads = []
    read = Store._read
    monkeypatch.setattr(Store, "_read", lambda store, name: reads.append(name) or read(store, name))

    def read_in(iterations):
        never = ("guard.nll_rise=99", "guard.stop_rate_drop=1", "guard.truncated_rise=1")
        options = ("warmup.epochs=0", f"training.iterations={iterations}", f"guard.stop={stop}", *never)
        launch = launched(workshop, tmp_path / str(iterations), *options)
        reads.clear()
        started(launch)
        return len(reads)

    two, four, six = map(read_in, (2, 4, 6))
    assert six - four == four - two
