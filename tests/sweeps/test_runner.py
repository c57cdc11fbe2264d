"""Sweeps and comparisons as a user meets them: runs on a tiny model, what they share, what happens when one fails."""

import json
import os
import shutil
import signal
import subprocess
import threading

import pytest

from tests.support import command_line
from tests.support.small_runs import new_run, work_on, write_task
from tests.support.waiting import until
from tspin_mlx.base.errors import BusyError, TspinError
from tspin_mlx.jobs.launch import make
from tspin_mlx.recipe.lineage import lineage, shared
from tspin_mlx.runs.event_log import read_events
from tspin_mlx.runs.lock import RunLock
from tspin_mlx.runs.run import Run
from tspin_mlx.sweeps.members import load_sweep
from tspin_mlx.sweeps.runner import Sweeping, alone

SETTINGS = {
    "lora.layers": 1,
    "generation.max_tokens": 6,
    "training.iterations": 1,
    "run.checkpoint_seconds": 0,
}

SWEEP = """recipe: task.yaml
set: {evaluation.samples: 0}
arms:
  plain: {}
  anchored: {objective.nll_weight: 1}
vary:
  run.seed: [0, 1]
"""
NAMES = [f"grid-{arm}-seed-{seed}" for arm in ("plain", "anchored") for seed in (0, 1)]

#: What an arm's objective cannot change.
SHARED = [
    "base/adapter", "base/eval.json", "initial/adapter", "initial/eval.json",
    "iterations/000/proto_synthetic", "iterations/000/triplets.jsonl", "base/test.json", "initial/test.json",
]  # fmt: skip


def cli(task, *args):
    return command_line.cli(*args, cwd=task, COLUMNS="140")


@pytest.fixture
def here(capsys):
    """A command that starts no run, in this process."""

    def call(task, *args):
        return command_line.cli_here(capsys, *args, cwd=task, COLUMNS="140")

    return call


def write_sweep(folder, model):
    """A task, and a sweep of it."""
    write_task(folder, model, SETTINGS, counts={"train": 8, "validation": 3, "test": 2})
    (folder / "grid.yaml").write_text(SWEEP)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_model):
    """A finished sweep: its folder, and what the command said."""
    folder = tmp_path_factory.mktemp("swept")
    write_sweep(folder, tiny_model)
    return folder, cli(folder, "sweep", "grid.yaml")


@pytest.fixture
def task(tmp_path, tiny_model, monkeypatch):
    write_sweep(tmp_path, tiny_model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_combination_is_a_run_and_the_table_comes_last(swept, here):
    folder, done = swept
    assert done.returncode == 0, done.stderr
    listed = json.loads(here(folder, "runs", "ls", "--folder", "runs/grid", "--json").stdout)
    assert {row["name"]: row["state"] for row in listed} == dict.fromkeys(NAMES, "finished")
    lines = done.stderr.splitlines()
    told = [line.split()[1:3] for line in lines if "grid-" in line]
    assert told == [[what, name] for name in NAMES for what in ("started", "finished")]
    assert "is best: nll" in done.stderr
    assert done.stdout.strip() == here(folder, "runs", "compare", "grid").stdout.strip()


def test_phases_that_runs_have_in_common_are_made_once(swept):
    folder, done = swept
    for arm, seed in (("anchored", 0), ("anchored", 1)):
        run = Run(folder / f"runs/grid/grid-{arm}-seed-{seed}")
        assert run.about["forked_from"] == {"run": f"grid-plain-seed-{seed}", "reused": SHARED}
        begun = {event["phase"] for event in read_events(run.events_path) if event["kind"] == "phase_started"}
        assert begun == {phase.target for phase in run.outline.phases} - set(SHARED)
    assert Run(folder / "runs/grid/grid-plain-seed-1").about["forked_from"] is None
    assert f"{len(SHARED)} of 12 phases from grid-plain-seed-0" in done.stderr


def test_a_run_that_took_over_is_the_run_that_did_it_all(swept, tiny_model):
    folder, _ = swept
    overrides = ("objective.nll_weight=1", "run.seed=1", "evaluation.samples=0", "run.name=alone")
    alone, sibling = new_run(folder, folder / "runs", *overrides), Run(folder / "runs/grid/grid-anchored-seed-1")
    work_on(alone)
    assert shared(lineage(alone.plan()), lineage(sibling.plan())) == [phase.target for phase in alone.outline.phases]
    assert sibling.evaluations() == alone.evaluations() and sibling.test() == alone.test()
    shutil.rmtree(alone.path)


def test_a_finished_sweep_has_nothing_to_do(swept, here):
    folder, done = swept
    again = here(folder, "sweep", "grid.yaml")
    assert again.returncode == 0 and again.stdout == done.stdout
    assert "4 runs, 4 of them finished" in again.stderr and "started" not in again.stderr


def test_the_comparison_in_numbers(swept, here):
    folder, _ = swept
    row = json.loads(here(folder, "runs", "compare", "grid", "--json").stdout)
    assert (row["metric"], row["lower_is_better"]) == ("nll", True)
    assert [group["settings"] for group in row["groups"]] == [{"objective.nll_weight": 0.0},
                                                             {"objective.nll_weight": 1.0}]  # fmt: skip
    runs = [Run(folder / f"runs/grid/grid-plain-seed-{seed}") for seed in (0, 1)]
    a, b = (run.evaluations()["initial"]["metrics"]["nll"] for run in runs)
    initial = row["groups"][0]["validation"]["initial"]
    assert initial == {"value": pytest.approx((a + b) / 2), "error": pytest.approx(abs(a - b) / 2), "count": 2}
    gains = [run.test()[run.result()["best"]]["metrics"]["nll"] - run.test()["initial"]["metrics"]["nll"]
             for run in runs]  # fmt: skip
    assert row["differences_on"] == "test"
    assert row["groups"][0]["best_minus_initial"]["value"] == pytest.approx(sum(gains) / 2)
    assert row["groups"][0]["best_minus_first_group"] == {"value": 0, "error": 0, "count": 2}


def test_a_dry_run_checks_everything_and_writes_nothing(task, here):
    done = here(task, "sweep", "grid.yaml", "--dry-run", "--json", "--set", "run.seed=1")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["runs"]
    assert [(row["name"], row["state"]) for row in rows] == [("grid-plain-seed-1", "not started"),
                                                            ("grid-anchored-seed-1", "not started")]  # fmt: skip
    assert not (task / "runs").exists()


BAD = {
    "a value": ("vary: {training.epochs: [1, 0]}", "bad.yaml: bad-epochs-0: override 'training.epochs=0'"),
    "a recipe that is not there": ("recipe: nowhere.yaml", "nowhere.yaml: no such recipe file"),
    "data that are not there": ("arms: {a: {}, b: {data.train: x.jsonl}}", "bad.yaml: bad-b: "),
    "two runs that are one": ("vary: {training.learning_rate: [1e-3, 0.001]}", "are the same run"),
}


@pytest.mark.parametrize(("more", "message"), BAD.values(), ids=BAD)
def test_a_bad_combination_is_named_before_the_first_run_starts(task, more, message):
    recipe = "" if more.startswith("recipe") else "recipe: task.yaml\n"
    (task / "bad.yaml").write_text(recipe + more)
    with pytest.raises(TspinError) as caught:
        load_sweep(task / "bad.yaml", task / "runs")
    assert message in caught.value.message
    assert not (task / "runs").exists()


def test_runs_made_with_other_settings_are_not_continued(task):
    (task / "one.yaml").write_text("recipe: task.yaml\nset: {training.epochs: 1}\n")
    (member,) = load_sweep(task / "one.yaml", task / "runs")
    make(member.checked)
    with pytest.raises(TspinError, match=r"training\.epochs +1 → 2"):
        load_sweep(task / "one.yaml", task / "runs", ["training.epochs=2"])


def test_side_by_side_those_that_share_wait_and_a_failure_stops_no_other(task):
    (task / "wide.yaml").write_text(
        "recipe: task.yaml\nset: {training.iterations: 0}\n"
        "arms: {a: {}, b: {evaluation.best: exact_match}, c: {run.seed: 1}, d: {warmup.learning_rate: 1e30}}\n"
    )
    done = cli(task, "sweep", "wide.yaml", "--jobs", 2)
    assert done.returncode == 6, done.stderr
    told = [tuple(line.split()[1:3]) for line in done.stderr.splitlines() if " wide-" in line]
    begun = [name for what, name in told if what == "started"]
    assert begun[:2] == ["wide-a", "wide-c"]  # b would make what a is just making
    assert set(told) == {(what, f"wide-{arm}") for arm in "abcd" for what in ("started", "finished")} - {
        ("finished", "wide-d")
    } | {("failed", "wide-d")}
    origin = Run(task / "runs/wide/wide-b").about["forked_from"]
    assert origin["run"] == "wide-a" and origin["reused"][:4] == SHARED[:4]
    assert "1 of 4 runs did not finish" in done.stderr
    assert "0 of 1" in done.stdout


def test_a_run_that_another_process_works_on_is_waited_for(task):
    (task / "one.yaml").write_text("recipe: task.yaml\nset: {training.iterations: 0}\n")
    (member,), changes = load_sweep(task / "one.yaml", task / "runs"), []
    lock = RunLock.acquire(make(member.checked).run.path)
    sweeping = Sweeping([member], 1, changes.append)
    threading.Timer(0.5, lock.close).start()
    sweeping.work(lambda: False)
    assert [change.what for change in changes] == ["joined", "failed"]
    assert "ended without a message" in changes[1].detail


def test_a_folder_that_cannot_be_made_is_reported(task, here):
    done = here(task, "sweep", "grid.yaml", "--folder", "task.yaml")
    assert done.returncode == 7 and "task.yaml/grid could not be written" in done.stderr


def test_a_sweep_is_worked_through_by_one_process(tmp_path):
    works = pytest.raises(BusyError, match=f"is in use by process {os.getpid()}")
    with alone(tmp_path / "runs/one"), works, alone(tmp_path / "runs/one"):
        pass
    with alone(tmp_path / "runs/one"):
        pass


def test_ctrl_c_stops_and_the_same_command_continues(task):
    (task / "long.yaml").write_text(
        "recipe: task.yaml\nset: {warmup.epochs: 60, run.checkpoint_seconds: 30}\nvary: {run.seed: [0, 1]}\n"
    )
    command = command_line.command("sweep", "long.yaml", "--set", "training.epochs=1")
    process = subprocess.Popen(command, cwd=task, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = task / "runs/long/long-seed-0"
    until(lambda: any(event["kind"] == "step" for event in read_events(first / "events.jsonl")) or process.poll())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped   long-seed-0" in said and "to resume: tspin-mlx sweep long.yaml --set=training.epochs=1" in said
    assert not (task / "runs/long/long-seed-1").exists()
    assert not (first / "initial/adapter").exists()
    members = load_sweep(task / "long.yaml", task / "runs", ["run.seed=0", "training.epochs=1"])
    assert [member.exists for member in members] == [True]
    changes = []
    Sweeping(members, 1, changes.append).work(lambda: False)
    assert [change.what for change in changes] == ["resumed", "finished"]
