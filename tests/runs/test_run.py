"""Run folders: made completely or not at all, and opened only with their own settings."""

import pytest

from tests.support.bare_runs import MODEL, PROMPTS, TARGETS, TEXT, plan, prompt
from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import DamagedError, StorageError, UsageError
from tspin_mlx.data.read import Splits
from tspin_mlx.recipe.phase import outline_from_row
from tspin_mlx.runs.create import create_run
from tspin_mlx.runs.run import FORMAT, Run, open_run


def test_a_new_run_holds_all_it_needs(made):
    assert sorted(path.name for path in made.path.iterdir()) == [
        "manifest.jsonl",
        "plan.json",
        "prompts.jsonl",
        "recipe.yaml",
        "run.json",
    ]
    assert made.name == "quick"
    assert made.about["model"] == MODEL
    assert made.about["versions"].keys() == {"tspin-mlx", "mlx", "mlx-lm"}
    assert made.about["forked_from"] is None
    assert (made.path / "recipe.yaml").read_text() == TEXT
    assert made.outline == outline_from_row(plan().to_row())
    assert made.plan() == plan()
    assert made.prompts() == PROMPTS
    assert made.pending() == TARGETS
    made.verify()


def test_a_run_that_cannot_be_written_completely_is_not_there(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        create_run(tmp_path / "quick", plan(), "description: \ud800", MODEL, PROMPTS)
    assert list(tmp_path.iterdir()) == []


def test_a_run_for_which_there_is_no_space_is_not_there(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filesystem.disk, "rename", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        create_run(tmp_path / "quick", plan(), TEXT, MODEL, PROMPTS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="no such run"):
            Run(path)


def test_a_run_is_opened_with_the_settings_it_was_made_with(made):
    again = open_run(made.path, plan())
    assert again.about == made.about


@pytest.mark.parametrize(
    "override",
    ["run.name=other", "run.folder=elsewhere", "description=new", "data.train=x.jsonl", "run.checkpoint_seconds=1"],
)
def test_a_run_is_opened_with_other_names_and_wording(made, override):
    assert open_run(made.path, plan(override)).about == made.about


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        (plan("training.epochs=3"), ["training.epochs  2 → 3"]),
        (
            plan("objective.alpha=0.5", "training.max_grad_norm=null", "lora.keys=[self_attn.q_proj]"),
            [
                'lora.keys               null → ["self_attn.q_proj"]',
                "objective.alpha         1.0 → 0.5",
                "training.max_grad_norm  1.0 → null",
            ],
        ),
        (
            plan("model.dtype=float32", "guard.stop=true"),
            ['model.dtype  "auto" → "float32"', "guard.stop   false → true"],
        ),
        (plan("data.system=Grüß Gott"), ['data.system  null → "Grüß Gott"']),
        (plan("training.epochs=3", "run.name=other"), ["training.epochs  2 → 3"]),
        (plan(prompts=Splits((prompt("a"), prompt("z")), (prompt("c"),), ())), ["the data files have changed"]),
        (plan(model="n"), ["the model's files have changed"]),
        (plan("run.seed=5", model="n"), ["run.seed  0 → 5", "the model's files have changed"]),
    ],
)
def test_a_run_made_with_other_settings_is_refused_and_they_are_named(made, now, differences):
    with pytest.raises(UsageError) as caught:
        open_run(made.path, now)
    lines = ["the run 'quick' was made with other settings:", *differences]
    assert caught.value.message == "\n  ".join(lines)
    assert "--fork NAME" in caught.value.hint


def of_another_version(run):
    row = run.store.read_json("plan.json")
    row["phases"][0]["seed"] += 1
    run.store.write_json("plan.json", row)
    run.store.write_json("run.json", run.about | {"versions": {"tspin-mlx": "0.0.9"}})
    return Run(run.path)


def test_a_plan_of_another_version_is_refused_in_words(made):
    of_another_version(made)
    with pytest.raises(UsageError, match="planned this recipe differently"):
        open_run(made.path, plan())


def test_a_run_that_this_version_would_plan_otherwise_is_not_continued(made):
    again = of_another_version(made)
    with pytest.raises(UsageError, match=r"quick: made by tspin-mlx 0\.0\.9, which planned this recipe differently"):
        again.plan()
    assert again.pending() == TARGETS  # it can still be looked at


def test_another_wording_of_a_phase_and_a_key_added_since_refuse_no_run(made):
    row = made.store.read_json("plan.json")
    row["phases"][0]["title"] = "in other words"
    del row["recipe"]["guard"], row["recipe"]["data"]["turn"]  # as if they had been added after the run was made
    made.store.write_json("plan.json", row)
    assert Run(made.path).plan() == plan()
    assert open_run(made.path, plan()).name == "quick"
    with pytest.raises(UsageError, match=r"data\.turn  \"last\" → \"first\""):
        open_run(made.path, plan("data.turn=first"))


@pytest.mark.parametrize("name", ["run.json", "plan.json"])
def test_a_run_whose_description_was_changed_is_not_opened(made, name):
    path = made.path / name
    path.write_text(path.read_text().replace("m", "n", 1))
    with pytest.raises(DamagedError, match=f"{name} has changed since it was written"):
        Run(made.path)


@pytest.mark.parametrize("found", [None, 0, FORMAT + 1])
def test_a_folder_of_another_format_is_not_read(made, found):
    made.store.write_json("run.json", {**made.about, "format": found})
    with pytest.raises(DamagedError, match=f"its folder has format {found}, this version reads 1 and {FORMAT}"):
        Run(made.path)


def test_a_run_that_another_version_planned_can_be_used_and_not_continued(made):
    row = made.store.read_json("plan.json")
    row["phases"][0]["seed"] += 1
    made.store.write_json("plan.json", row)
    run = Run(made.path)
    assert run.recipe() == plan().recipe
    with pytest.raises(UsageError, match="which planned this recipe differently"):
        run.plan()


def test_a_recipe_of_another_version_is_refused_in_words(made):
    row = made.store.read_json("plan.json")
    row["recipe"]["training"]["flux"] = 1
    made.store.write_json("plan.json", row)
    for use in (Run(made.path).recipe, Run(made.path).replan, Run(made.path).plan):
        with pytest.raises(UsageError, match=r"made by tspin-mlx .* had other keys or values \(training\.flux\)"):
            use()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: [],
        lambda row: {**row, "recipe": None},
        lambda row: {**row, "phases": [{"kind": "keep"}]},
        lambda row: {**row, "phases": [{**phase, "train": {"steps": 1}, "objective": {}} for phase in row["phases"]]},
    ],
    ids=["no object", "no recipe", "a phase without a target", "training without its steps"],
)
def test_a_plan_that_is_none_is_damage(made, spoil):
    made.store.write_json("plan.json", spoil(made.store.read_json("plan.json")))
    with pytest.raises(DamagedError, match=r"plan\.json is not the plan of a run"):
        Run(made.path)
