"""The phases of a run that are done and those that are left, also after a collapse."""

from tests.support.bare_runs import CONCLUSIONS, MODEL, PROMPTS, TARGETS, TEXT, evaluation, finish, plan
from tspin_mlx.runs.create import create_run


def test_a_phase_is_done_when_its_target_has_its_name(made):
    (made.path / "initial" / ".adapter.partial").mkdir(parents=True)
    assert made.pending() == TARGETS
    finish(made, "initial/adapter")
    assert made.pending() == [target for target in TARGETS if target != "initial/adapter"]


def test_a_run_is_finished_when_every_phase_is(made):
    finish(made, *TARGETS[:-1])
    assert not made.is_finished
    assert made.pending() == ["test.json"]
    finish(made, "test.json")
    assert made.is_finished


def collapsing(tmp_path, *overrides):
    return create_run(tmp_path / "c", plan("training.iterations=3", *overrides), TEXT, MODEL, PROMPTS)


def test_after_a_collapse_no_further_iterations_are_made_if_the_recipe_says_so(tmp_path):
    run = collapsing(tmp_path, "guard.stop=true")
    finish(run, *TARGETS[:7])
    finish(
        run, "iterations/000/eval.json", signs=["the expert's answers have NLL 9.00 per token, 1.00 before self-play"]
    )
    assert run.pending() == CONCLUSIONS
    finish(run, *CONCLUSIONS)
    assert run.is_finished


def test_phases_begun_after_a_collapse_are_left(tmp_path):
    run = collapsing(tmp_path, "guard.stop=true")
    finish(run, *TARGETS[:7], "iterations/001/synthetic")
    finish(run, "iterations/000/eval.json", signs=["worse"])
    assert run.pending() == CONCLUSIONS


def test_the_first_of_two_collapses_counts(tmp_path):
    run = collapsing(tmp_path, "guard.stop=true")
    finish(run, *TARGETS[:4])
    finish(run, "iterations/001/eval.json", "iterations/002/eval.json", signs=["worse"])
    assert [target for target in run.pending() if target.startswith("iterations/001")] == [
        "iterations/001/synthetic",
        "iterations/001/triplets.jsonl",
        "iterations/001/adapter",
    ]
    assert not [target for target in run.pending() if target.startswith("iterations/002")]
    assert len([target for target in run.pending() if target.startswith("iterations/000")]) == 4


def test_after_a_collapse_a_run_continues_unless_the_recipe_says_otherwise(tmp_path):
    run = collapsing(tmp_path)
    finish(run, *TARGETS[:7])
    finish(run, "iterations/000/eval.json", signs=["worse"])
    assert len(run.pending()) == 4 + 4 + 4


def test_without_signs_nothing_is_left_out(tmp_path):
    run = collapsing(tmp_path, "guard.stop=true")
    finish(run, *TARGETS[:8])
    assert len(run.pending()) == 4 + 4 + 4


def test_evaluations_come_in_the_order_of_the_policies(made):
    assert made.evaluations() == {}
    made.store.write_json("iterations/000/eval.json", evaluation(1.0))
    made.store.write_json("initial/eval.json", evaluation(2.0))
    assert list(made.evaluations().items()) == [("initial", evaluation(2.0)), ("iterations/000", evaluation(1.0))]


def test_result_and_test_are_nothing_before_the_end(made):
    assert made.result() is None
    assert made.test() is None
    made.store.write_json("result.json", {"best": "initial"})
    for policy, nll in (("base", 3.0), ("initial", 2.0)):
        made.store.write_json(f"{policy}/test.json", {"metrics": {"nll": nll}})
    assert made.test() is None
    made.store.write_json("test.json", {"policy": "iterations/000", "metrics": {"nll": 1.0}})
    assert made.result() == {"best": "initial"}
    assert {policy: content["metrics"]["nll"] for policy, content in made.test().items()} == {
        "base": 3.0, "initial": 2.0, "iterations/000": 1.0,
    }  # fmt: skip
