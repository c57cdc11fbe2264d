"""Run folders: made completely or not at all, and opened only with the settings they were made with."""

import json

import pytest

from tspin_mlx.data import Splits
from tspin_mlx.errors import UsageError
from tspin_mlx.plan import make_plan
from tspin_mlx.recipe_text import parse_recipe
from tspin_mlx.runs.directory import Run, create_run, data_digest, list_runs, open_run
from tspin_mlx.triplets import Prompt, Response

TEXT = "data: {train: t.jsonl}\ntraining: {iterations: 1}\n"
MODEL = {"name": "tiny", "path": "/models/tiny", "fingerprint": "m"}


def prompt(name, text="p\u2028?"):
    return Prompt(name, (1, 2), text, Response((3, 4), "r"), "r")


PROMPTS = Splits((prompt("a"), prompt("b")), (prompt("c"),), (prompt("d"),))


def plan(*overrides, prompts=PROMPTS, model="m"):
    recipe = parse_recipe(TEXT, "r.yaml", overrides)
    return make_plan(recipe, prompts.counts, model, data_digest(prompts))


@pytest.fixture
def made(tmp_path):
    return create_run(tmp_path / "runs" / "quick", plan(), TEXT, MODEL, PROMPTS)


def finish(run, *targets):
    for target in targets:
        path = run.path / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def test_a_new_run_holds_all_it_needs(made):
    assert sorted(path.name for path in made.path.iterdir()) == [
        "plan.json",
        "prompts.jsonl",
        "recipe.yaml",
        "run.json",
    ]
    assert made.name == "quick"
    assert made.about["model"] == MODEL
    assert made.about["fingerprint"] == plan().fingerprint
    assert made.about["versions"].keys() == {"tspin-mlx", "mlx", "mlx-lm"}
    assert (made.path / "recipe.yaml").read_text() == TEXT
    assert made.plan_row == json.loads(json.dumps(plan().to_row()))
    assert made.prompts() == PROMPTS


def test_a_run_that_cannot_be_written_completely_is_not_there(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        create_run(tmp_path / "quick", plan(), "description: \ud800", MODEL, PROMPTS)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_opened_with_the_settings_it_was_made_with(made):
    again = open_run(made.path, plan())
    assert again.about == made.about


@pytest.mark.parametrize(
    "override", ["run.name=other", "run.folder=elsewhere", "description=new", "data.train=x.jsonl"]
)
def test_a_run_is_opened_with_other_names_and_wording(made, override):
    assert open_run(made.path, plan(override)).about == made.about


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (plan("training.epochs=3"), "training.epochs was 2, is 3"),
        (
            plan("objective.alpha=0.5", "training.max_grad_norm=null"),
            "objective.alpha was 1.0, is 0.5; training.max_grad_norm was 1.0, is None",
        ),
        (plan("training.epochs=3", "run.name=other"), "training.epochs was 2, is 3"),
        (plan(prompts=Splits((prompt("a"), prompt("z")), (prompt("c"),), ())), "the data files have changed"),
        (plan(model="n"), "the model's files have changed"),
        (plan("run.seed=5", model="n"), "run.seed was 0, is 5; the model's files have changed"),
    ],
)
def test_a_run_made_with_other_settings_is_refused_and_they_are_named(made, now, difference):
    with pytest.raises(UsageError) as caught:
        open_run(made.path, now)
    assert caught.value.message == f"the run 'quick' was made with other settings: {difference}"
    assert "run.name=NAME" in caught.value.hint


def test_a_plan_of_another_version_is_refused_in_words(made):
    (made.path / "run.json").write_text(json.dumps(made.about | {"fingerprint": "of another version"}))
    with pytest.raises(UsageError, match="this version of tspin-mlx plans otherwise"):
        open_run(made.path, plan())


def test_what_is_no_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="no such run"):
            Run(path)


def test_a_phase_is_done_when_its_target_has_its_name(made):
    phases = plan().phases
    assert not any(made.is_done(phase) for phase in phases)
    finish(made, "iterations/000/.adapter.partial")
    assert not any(made.is_done(phase) for phase in phases)
    finish(made, "iterations/000/adapter")
    assert [phase.kind for phase in phases if made.is_done(phase)] == ["train"]


def test_a_run_is_finished_when_every_phase_is(made):
    targets = [phase.target for phase in plan().phases]
    finish(made, *targets[:-1])
    assert not made.is_finished
    finish(made, targets[-1])
    assert made.is_finished


def test_evaluations_come_in_the_order_of_the_policies(made):
    assert made.evaluations() == {}
    for folder, nll in (("iterations/000", 1.0), ("initial", 2.0)):
        finish(made, f"{folder}/eval.json")
        (made.path / folder / "eval.json").write_text(json.dumps({"metrics": {"nll": nll}}))
    assert list(made.evaluations().items()) == [
        ("initial", {"metrics": {"nll": 2.0}}),
        ("iterations/000", {"metrics": {"nll": 1.0}}),
    ]


def test_result_and_test_are_nothing_before_the_end(made):
    assert made.result() is None
    assert made.test() is None
    (made.path / "result.json").write_text('{"best": "initial"}')
    (made.path / "test.json").write_text('{"initial": {}}')
    assert made.result() == {"best": "initial"}
    assert made.test() == {"initial": {}}


def test_runs_are_listed_oldest_first_without_what_is_unfinished_or_something_else(tmp_path):
    for name, created in (("b", 3.0), ("a", 5.0), ("c", 1.0), (".d.partial", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"created": created}))
    (tmp_path / "other").mkdir()
    assert [run.name for run in list_runs(tmp_path)] == ["c", "b", "a"]
    assert list_runs(tmp_path / "none") == []


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
    assert len({data_digest(splits) for splits in different}) == len(different)
    assert data_digest(Splits((a,), (b,), (), skipped=("t.jsonl:3: bad",))) == data_digest(different[0])
