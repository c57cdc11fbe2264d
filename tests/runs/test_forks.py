"""A new run takes over what its plan would make just as another run did, and nothing else."""

import shutil

import pytest

from tests.support.bare_runs import MODEL, PROMPTS, TARGETS, TESTED, TEXT, finish, plan, prompt
from tspin_mlx.data.read import Splits
from tspin_mlx.recipe.plan import BatchSizes
from tspin_mlx.runs.create import create_run, data_digests
from tspin_mlx.runs.run import MEASURED, Run


@pytest.fixture
def begun(tmp_path):
    return create_run(tmp_path / "runs" / "quick", plan(), TEXT, MODEL, PROMPTS)


@pytest.fixture
def origin(begun):
    """A finished run."""
    finish(begun)
    begun.store.point("best", "iterations/000/adapter")
    return begun


def fork(origin, *overrides, **more):
    path = origin.path.parent / "fork"
    return create_run(path, plan(*overrides, **more), TEXT, MODEL, more.get("prompts", PROMPTS), origin)


def test_a_fork_takes_over_what_its_plan_would_make_again(origin):
    forked = fork(origin, "objective.beta=0.3")
    kept = TARGETS[:10] + TESTED
    assert forked.about["forked_from"] == {"run": "quick", "reused": kept}
    assert forked.pending() == [target for target in TARGETS if target not in kept]
    for target in kept:
        name = f"{target}/content" if (origin.path / target).is_dir() else target
        assert (forked.path / name).read_bytes() == (origin.path / name).read_bytes()
    forked.verify()
    assert forked.plan() == plan("objective.beta=0.3")
    assert not forked.store.has("best") and forked.result() is None


def test_a_fork_without_a_change_is_finished_and_has_its_best(origin):
    forked = fork(origin)
    assert forked.about["forked_from"]["reused"] == TARGETS
    assert forked.is_finished
    assert str((forked.path / "best").readlink()) == "iterations/000/adapter"
    assert (forked.path / "best" / "content").read_text() == "iterations/000/adapter"
    forked.verify()


def test_the_untouched_model_is_taken_over_with_its_evaluation(origin):
    forked = fork(origin, "warmup.epochs=2")
    assert forked.about["forked_from"]["reused"] == ["base/adapter", "base/eval.json", "base/test.json"]
    assert (forked.path / "base" / "adapter" / "content").read_text() == "base/adapter"
    forked.verify()


def test_a_fork_with_another_seed_takes_over_nothing(origin):
    forked = fork(origin, "run.seed=1")
    assert forked.about["forked_from"] == {"run": "quick", "reused": []}
    assert forked.pending() == TARGETS
    assert sorted(path.name for path in forked.path.iterdir()) == [
        "manifest.jsonl",
        "plan.json",
        "prompts.jsonl",
        "recipe.yaml",
        "run.json",
    ]


def test_a_fork_with_another_model_takes_over_nothing(origin):
    assert fork(origin, model="n").about["forked_from"]["reused"] == []


def test_a_fork_with_other_training_examples_takes_over_what_needs_none(origin):
    others = Splits((prompt("z"),), PROMPTS.validation, PROMPTS.test)
    origin.decide(MEASURED, BatchSizes(False, 2, 16))
    forked = fork(origin, prompts=others)
    assert forked.about["forked_from"]["reused"] == ["base/adapter", "base/eval.json", "base/test.json"]
    assert forked.decisions() == []  # the largest example may be larger
    assert forked.prompts() == others


def test_damaged_and_missing_results_are_not_taken_over(origin):
    (origin.path / "iterations/000/adapter/content").write_text("other")
    (origin.path / "iterations/001/eval.json").write_text("{}")
    origin.store.remove("iterations/001/synthetic")
    forked = fork(origin)
    assert forked.pending() == ["iterations/000/adapter", "iterations/001/synthetic", "iterations/001/eval.json"]
    forked.verify()


def test_more_iterations_take_over_all_those_before(origin):
    forked = fork(origin, "training.iterations=3")
    assert forked.about["forked_from"]["reused"] == TARGETS[:12] + TESTED
    assert forked.pending()[0] == "iterations/002/synthetic"


def test_a_fork_of_a_run_that_was_not_finished_takes_over_what_there_is(begun):
    finish(begun, *TARGETS[:3])
    finish(begun, "initial/checkpoints/step-000001/content")
    forked = fork(begun)
    assert forked.about["forked_from"]["reused"] == TARGETS[:3]
    assert not (forked.path / "initial" / "checkpoints").exists()


def test_a_fork_computes_as_much_at_once_as_its_origin_had_come_to(origin):
    origin.decide("out of memory", BatchSizes(False, 2, 16))
    forked = fork(origin, "objective.beta=0.3")
    assert forked.decisions() == origin.decisions()
    assert forked.plan() == plan("objective.beta=0.3").with_sizes(BatchSizes(False, 2, 16))


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        (["training.learning_rate=0.1"], True),
        (["training.iterations=3"], True),
        (["objective.beta=0"], False),  # pairs need less than triplets
        (["generation.max_tokens=64"], False),
        (["lora.rank=8"], False),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else str(given),
)
def test_a_measured_size_holds_for_the_steps_it_was_measured_for(origin, changes, holds):
    origin.decide(MEASURED, BatchSizes(False, 2, 16))
    assert fork(origin, *changes).decisions() == (origin.decisions() if holds else [])


def test_a_fork_does_not_need_its_origin_any_more_and_leaves_it_as_it_was(origin):
    before = {path: path.read_bytes() for path in origin.path.rglob("*") if path.is_file()}
    forked = fork(origin)
    assert {path: path.read_bytes() for path in origin.path.rglob("*") if path.is_file()} == before
    shutil.rmtree(origin.path)
    Run(forked.path).verify()
    assert Run(forked.path).result() == {"best": "iterations/000"}


def test_the_digest_of_the_data_tells_contents_and_parts_apart():
    a, b = prompt("a"), prompt("b")
    different = [
        Splits((a,), (b,), ()),
        Splits((b,), (a,), ()),
        Splits((a,), (), (b,)),
        Splits((a, b), (), ()),
        Splits((b, a), (), ()),
        Splits((a,), (prompt("b", "q"),), ()),
    ]
    assert len({tuple(data_digests(splits).values()) for splits in different}) == len(different)
    assert data_digests(Splits((a,), (b,), (), skipped=("t.jsonl:3: bad",))) == data_digests(different[0])
