"""The algorithm on one page trains the same adapters as the engine, bit for bit."""

import pytest

from tests.support.small_runs import prepare_small_run
from tspin_mlx.base.seeds import derive
from tspin_mlx.engine.worker import work
from tspin_mlx.generation.batch import Decoding
from tspin_mlx.models.adapters import load_tensors, set_adapter
from tspin_mlx.models.of_run import load_run
from tspin_mlx.tspin import tspin

ITERATIONS = 3


@pytest.mark.parametrize(
    "overrides",
    [
        ["warmup.epochs=0", "objective.nll_weight=0"],
        ["objective.beta=0.7", "objective.alpha=0.3", "objective.contrast_tokens=4", "generation.temperature=0.8"],
        ["lora.dropout=0.3", "objective.entropy_weight=0.1", "training.micro_batch_size=1", "run.seed=5"],
    ],
    ids=["the paper's objective alone", "from a warm-up, sharper and to a few tokens", "with dropout and entropy"],
)
def test_the_page_and_the_engine_train_the_same_adapters(tiny_model, tmp_path, overrides):
    run = prepare_small_run(tiny_model, tmp_path, f"training.iterations={ITERATIONS}", *overrides)
    work(run)
    recipe, plan = run.recipe(), run.plan()
    policy = load_run(run, recipe)
    set_adapter(policy, run.path / "initial" / "adapter")
    last = plan.train_phases[-1]
    sampling = recipe.generation
    tspin(
        policy,
        run.prompts().train,
        ITERATIONS,
        Decoding(sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.batch_size),
        last.objective,
        last.train,
        recipe.run.seed,
    )
    trained = load_tensors(run.path / f"iterations/{ITERATIONS - 1:03}" / "adapter" / "adapters.safetensors")
    assert policy.adapter().keys() == trained.keys()
    assert all((policy.adapter()[name] == trained[name]).all().item() for name in trained)


def test_seeds_are_those_of_the_plan(tiny_model, tmp_path):
    plan = prepare_small_run(tiny_model, tmp_path, "run.seed=5").plan()
    seeds = {(phase.kind, phase.iteration): phase.seed for phase in plan.phases}
    assert seeds["generate", 1] == derive(5, "generate", 1) and seeds["train", 1] == derive(5, "train", 1)
