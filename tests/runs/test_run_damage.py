"""Runs after a crash or with damaged files: tidied, or refused and the files named."""

import pytest

from tests.support.bare_runs import TARGETS, finish
from tspin_mlx.base.errors import DamagedError


def test_half_done_work_is_tidied_away_after_a_crash(made):
    finish(made, "initial/adapter", "initial/checkpoints/step-000001/content", "iterations/000/triplets.jsonl")
    finish(made, "iterations/000/checkpoints/step-000001/content")
    manifest = made.path / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"file": "half')
    made.recover()
    assert manifest.read_bytes() == whole
    assert not (made.path / "initial/checkpoints").exists()
    assert (made.path / "initial/adapter/content").is_file()
    # This phase is not done: it continues from there.
    assert (made.path / "iterations/000/checkpoints/step-000001/content").is_file()
    made.recover()
    made.verify()


def test_a_run_in_which_nothing_happened_is_recovered_too(made):
    before = {path.name: path.read_bytes() for path in made.path.iterdir()}
    made.recover()
    assert {path.name: path.read_bytes() for path in made.path.iterdir()} == before


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


def test_at_most_three_damaged_files_are_named(made):
    finish(made)
    for target in TARGETS:
        if target.endswith(".json"):
            (made.path / target).write_text("{}")
    with pytest.raises(DamagedError) as caught:
        made.verify()
    assert caught.value.message.endswith("base/eval.json, initial/eval.json, iterations/000/eval.json (and 5 more)")
