"""Run folders: made completely or not at all, opened only with their own settings, and believed only if intact."""

import pytest

from tspin_mlx.base import storage
from tspin_mlx.base.errors import DamagedError, StorageError, UsageError
from tspin_mlx.data.read import Splits
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.phase import outline_from_row
from tspin_mlx.recipe.plan import BatchSizes, make_plan
from tspin_mlx.runs.create import create_run, data_digests
from tspin_mlx.runs.run import FORMAT, Run, find_run, open_run, run_paths

TEXT = "data: {train: t.jsonl}\nwarmup: {epochs: 1}\ntraining: {iterations: 2}\n"
MODEL = {"name": "tiny", "path": "/models/tiny", "fingerprint": "m"}

TARGETS = [
    "base/adapter",
    "base/eval.json",
    "initial/adapter",
    "initial/eval.json",
    "iterations/000/proto_synthetic",
    "iterations/000/triplets.jsonl",
    "iterations/000/adapter",
    "iterations/000/eval.json",
    "iterations/001/synthetic",
    "iterations/001/triplets.jsonl",
    "iterations/001/adapter",
    "iterations/001/eval.json",
    "result.json",
    "base/test.json",
    "initial/test.json",
    "test.json",
]


CONCLUSIONS = TARGETS[-4:]
TESTED = ["base/test.json", "initial/test.json"]


def prompt(name, text="p\u2028?"):
    return Prompt(name, (1, 2), text, Response((3, 4), "r"), "r")


PROMPTS = Splits((prompt("a"), prompt("b")), (prompt("c"),), (prompt("d"),))


def plan(*overrides, prompts=PROMPTS, model="m"):
    recipe = parse_recipe(TEXT, "r.yaml", overrides)
    return make_plan(recipe, prompts.counts, model, data_digests(prompts))


@pytest.fixture
def made(tmp_path):
    return create_run(tmp_path / "runs" / "quick", plan(), TEXT, MODEL, PROMPTS)


def evaluation(nll=1.0, signs=()):
    return {"metrics": {"nll": nll}, "signs_of_collapse": list(signs), "responses": []}


def finish(run, *targets, signs=()):
    """Do phases as the engine would leave them."""
    for target in targets or TARGETS:
        if target.endswith(("adapter", "synthetic")):
            with run.store.new_folder(target) as folder:
                (folder / "content").write_text(target)
        elif target.endswith("eval.json"):
            run.store.write_json(target, evaluation(signs=signs))
        elif target == "result.json":
            run.store.write_json(target, {"best": "iterations/000"})
        else:
            run.store.write_text(target, "{}\n")


# --- making a run


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

    monkeypatch.setattr(storage.disk, "rename", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        create_run(tmp_path / "quick", plan(), TEXT, MODEL, PROMPTS)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="no such run"):
            Run(path)


# --- opening it again


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


# --- finding it


@pytest.mark.parametrize("found", [None, 0, FORMAT + 1])
def test_a_folder_of_another_format_is_not_read(made, found):
    made.store.write_json("run.json", {**made.about, "format": found})
    with pytest.raises(DamagedError, match=f"its folder has format {found}, this version reads 1 and {FORMAT}"):
        Run(made.path)


def test_what_another_version_planned_can_be_used_and_not_continued(made):
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


def test_a_run_is_found_by_its_name_or_its_path(made, monkeypatch):
    folder = made.path.parent
    assert find_run("quick", folder).path == made.path
    assert find_run(str(made.path), folder / "elsewhere").path == made.path
    assert find_run(f"{made.path}/", folder / "elsewhere").path == made.path
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_run("~/runs/quick", folder / "elsewhere").path == made.path
    monkeypatch.chdir(folder)
    assert find_run("./quick", folder / "elsewhere").name == "quick"


@pytest.mark.parametrize("name", ["", ".", "..", "link", "~nobody-of-this-name/run", "x" * 300, "./" + "x" * 300])
def test_a_name_that_is_none_or_leads_elsewhere_is_refused(made, name):
    (made.path.parent / "link").symlink_to("quick")
    with pytest.raises(UsageError) as caught:
        find_run(name, made.path.parent)
    assert caught.value.message == f"{name!r} is not the name or path of a run"
    assert "runs ls" in caught.value.hint


@pytest.mark.parametrize("name", ["none", "a\0b", "\ud800", "none/quick", "~/no/such"])
def test_a_run_that_is_not_there_is_not_found(made, name):
    with pytest.raises(UsageError, match="no such run"):
        find_run(name, made.path.parent)


def test_runs_are_listed_by_name_without_what_is_unfinished_or_something_else(tmp_path):
    for name in ("b", "a", "c", ".d.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "file").write_text("x")
    assert [path.name for path in run_paths(tmp_path)] == ["a", "b", "c"]
    assert run_paths(tmp_path / "none") == []


def test_a_run_that_is_nearly_the_name_of_another_is_suggested(made):
    with pytest.raises(UsageError, match="quik: no such run") as caught:
        find_run("quik", made.path.parent)
    assert caught.value.hint == "did you mean quick?"


# --- what is done, and what is left to do


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
    finish(run, "iterations/000/eval.json", signs=["the expert's answers have NLL 9.00 per token"])
    assert run.pending() == CONCLUSIONS
    finish(run, *CONCLUSIONS)
    assert run.is_finished


def test_what_was_begun_after_a_collapse_is_left(tmp_path):
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


def test_after_a_collapse_a_run_goes_on_unless_the_recipe_says_otherwise(tmp_path):
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


# --- decisions


def test_decisions_are_kept_and_the_last_one_counts(made):
    assert made.decisions() == []
    made.decide("out of memory", BatchSizes(False, 2, 16))
    made.decide("the GPU watchdog", BatchSizes(False, 1, 8))
    found = Run(made.path).decisions()
    assert [(made.reason, made.sizes) for made in found] == [
        ("out of memory", BatchSizes(False, 2, 16)),
        ("the GPU watchdog", BatchSizes(False, 1, 8)),
    ]
    assert Run(made.path).plan() == plan().with_sizes(BatchSizes(False, 1, 8))
    assert open_run(made.path, plan()).name == "quick"  # the recipe is still the one it was made with


def test_a_decision_that_a_crash_left_half_written_was_not_made(made):
    made.decide("out of memory", BatchSizes(False, 2, 16))
    path = made.path / "decisions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"reason": "half')
    assert made.plan() == plan().with_sizes(BatchSizes(False, 2, 16))
    made.decide("again", BatchSizes(False, 1, 8))
    assert path.read_bytes().startswith(whole + b'{"reason": ')
    assert [decision.reason for decision in made.decisions()] == ["out of memory", "again"]


def test_decisions_that_cannot_be_read_are_damage(made):
    (made.path / "decisions.jsonl").write_text("{\n")
    with pytest.raises(DamagedError, match=r"decisions\.jsonl cannot be read"):
        made.plan()


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "{}"),
        '{"reason": "x", "memory": "fast", "micro_batch_size": 0, "generation_batch_size": 1}',
        '{"reason": "x", "memory": "auto", "micro_batch_size": 1, "generation_batch_size": 1}',
    ],
)
def test_damaged_decisions_are_refused(made, line):
    made.decide("out of memory", BatchSizes(False, 2, 16))
    with (made.path / "decisions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DamagedError, match=r"decisions\.jsonl cannot be read"):
        made.plan()


# --- after a crash


def test_what_a_crash_left_half_done_is_tidied_away(made):
    finish(made, "initial/adapter", "initial/checkpoints/step-000001/content", "iterations/000/triplets.jsonl")
    finish(made, "iterations/000/checkpoints/step-000001/content")
    manifest = made.path / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"file": "half')
    made.recover()
    assert manifest.read_bytes() == whole
    assert not (made.path / "initial/checkpoints").exists()
    assert (made.path / "initial/adapter/content").is_file()
    # This phase is not done: it goes on from there.
    assert (made.path / "iterations/000/checkpoints/step-000001/content").is_file()
    made.recover()
    made.verify()


def test_a_run_in_which_nothing_happened_is_recovered_too(made):
    before = {path.name: path.read_bytes() for path in made.path.iterdir()}
    made.recover()
    assert {path.name: path.read_bytes() for path in made.path.iterdir()} == before


# --- damage


def test_a_finished_run_is_what_was_written(made):
    finish(made)
    made.verify()
    made.store.write_text("events.jsonl", "of no importance")
    (made.path / "events.jsonl").write_text("changed")
    (made.path / "notes.txt").write_text("the user's own")
    (made.path / "initial" / "adapter" / ".DS_Store").write_text("the system's own")
    made.verify()


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "plan.json",
        "recipe.yaml",
        "prompts.jsonl",
        "base/adapter/content",
        "base/eval.json",
        "initial/adapter/content",
        "iterations/000/proto_synthetic/content",
        "iterations/001/triplets.jsonl",
        "iterations/001/eval.json",
        "result.json",
        "test.json",
    ],
)
@pytest.mark.parametrize("how", ["changed", "emptied"])
def test_damage_to_anything_that_is_done_is_named(made, name, how):
    finish(made)
    path = made.path / name
    path.write_bytes(path.read_bytes()[:-1] + b"\0" if how == "changed" else b"")
    with pytest.raises(DamagedError) as caught:
        made.verify()
    assert caught.value.message == f"{made.path}: files have changed since they were written: {name}"
    assert "--fork" in caught.value.hint


@pytest.mark.parametrize("name", ["run.json", "plan.json", "recipe.yaml", "prompts.jsonl", "initial/adapter/content"])
def test_files_that_are_gone_are_named(made, name):
    finish(made)
    (made.path / name).unlink()
    with pytest.raises(DamagedError, match=f"changed since they were written: {name}$"):
        made.verify()


def test_a_result_that_was_removed_is_no_damage_but_to_be_made_again(made):
    finish(made)
    made.store.remove("iterations/001/adapter")
    made.store.remove("test.json")
    made.verify()
    assert made.pending() == ["iterations/001/adapter", "test.json"]


def test_of_much_damage_three_files_are_named(made):
    finish(made)
    for target in TARGETS:
        if target.endswith(".json"):
            (made.path / target).write_text("{}")
    with pytest.raises(DamagedError) as caught:
        made.verify()
    assert caught.value.message.endswith("base/eval.json, initial/eval.json, iterations/000/eval.json (and 5 more)")
