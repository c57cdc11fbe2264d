"""Killed before any durable operation, or in the middle of any write, a run resumes and ends the same.

The engine really runs, on a tiny llama. One run is watched at the seam through which everything durable goes: before
each operation, and with each write torn in half, its folder is copied as a kill would leave it. Every copy is then
resumed and compared with the run that was never killed: until the phase in which it was killed and the next one are
done, and to the end for the first copy of each phase. What a run does in a phase depends on its folder alone, so the
end of those is the end of all. With TSPIN_MLX_ALL_TO_THE_END=1 every copy is resumed to the end.
"""

import itertools
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import pytest

from tests.support.digests import run_digests
from tests.support.small_runs import new_run, write_task
from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import StorageError
from tspin_mlx.engine import context
from tspin_mlx.engine.worker import work
from tspin_mlx.runs.event_log import read_events
from tspin_mlx.runs.run import Run
from tspin_mlx.training import trainer

SETTINGS = {
    "lora.dropout": 0.1,
    "generation.max_tokens": 6,
    "generation.batch_size": 2,
    "generation.shard_tokens": 70,
    "generation.prompts": 4,
    "objective.alpha": 0.5,
    "objective.nll_weight": 0.5,
    "training.epochs": 2,
    "training.batch_size": 2,
    "training.micro_batch_size": 1,
    "evaluation.samples": 1,
    "run.seed": 3,
    "run.checkpoint_seconds": 0,
}

ALL_TO_THE_END = bool(os.environ.get("TSPIN_MLX_ALL_TO_THE_END"))

#: Fields of a step that are not the same twice.
TIMES = {"time", "tokens_per_s", "elapsed_s", "memory/active_bytes", "memory/peak_bytes"}


@dataclass(frozen=True)
class Killed:
    """What is left of a run that was killed.

    Attributes:
        when: the operation, in words.
        path: the folder.
    """

    when: str
    path: Path


class WatchedDisk(filesystem.Disk):
    """Copies the run as a kill before, or in the middle of, each operation would leave it."""

    def __init__(self, run: Path, copies: Path) -> None:
        self.run, self.copies = run, copies
        self.killed: list[Killed] = []

    def copy(self, when, path):
        name = path.relative_to(self.run).as_posix()
        copy = self.copies / str(len(self.killed)) / self.run.name
        shutil.copytree(self.run, copy, symlinks=True)
        self.killed.append(Killed(f"{when} {name}", copy))

    def write(self, path, fill):
        self.copy("before writing", path)
        fill(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        self.copy("in the middle of", path)
        path.write_bytes(whole)

    def append(self, path, line):
        self.copy("before a line of", path)
        length = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(line[: len(line) // 2])
        self.copy("in the middle of a line of", path)
        with path.open("r+b") as file:
            file.truncate(length)
        super().append(path, line)

    def rename(self, source, target):
        self.copy("before naming", target)
        super().rename(source, target)

    def link(self, link, target):
        self.copy("before linking", link)
        super().link(link, target)

    def remove(self, path):
        if path.exists() or path.is_symlink():
            self.copy("before removing", path)
        super().remove(path)


@pytest.fixture(scope="module")
def task(tmp_path_factory, tiny_model):
    counts = {"train": 4, "validation": 2, "test": 2}
    return write_task(tmp_path_factory.mktemp("task"), tiny_model, SETTINGS, counts=counts)


def made(task, folder):
    return new_run(task, folder)


@pytest.fixture(scope="module")
def watched(task, tmp_path_factory):
    """The results of a run that was never killed, and all the ways in which it could have been."""
    run = made(task, tmp_path_factory.mktemp("runs"))
    disk = WatchedDisk(run.path, tmp_path_factory.mktemp("killed"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(filesystem, "disk", disk)
        patched.setattr(context, "_PROGRESS_EVERY", 1e9)  # else the number of events depends on the machine
        work(run)
    return results(run), disk.killed


def results(run):
    """Everything that must be the same: tensors, triplets, measures, and what was seen at each step."""
    found = run_digests(run)
    kept = ("eval.json", "triplets.jsonl", "scores.jsonl", "result.json", "test.json")
    found |= {str(path.relative_to(run.path)): path.read_text() for path in run.path.glob("**/*") if path.name in kept}
    for event in read_events(run.events_path):
        if event["kind"] == "step":
            seen = {name: value for name, value in event.items() if name not in TIMES}
            found[f"{event['phase']} step {event['step']}"] = seen  # of a step that was repeated, the last
    if run.result() is not None:  # before that it leads to the best so far
        found["best"] = (run.path / "best").readlink()
    return found


class Unsynced(filesystem.Disk):
    """Leaves it to the system when a file goes to the medium, which no test can see and a slow disk takes long for."""

    def sync(self, path):
        pass


class EnoughError(Exception):
    """Two phases are done."""


def resumed(killed, folder, *, to_the_end):
    """The run of a copy, resumed: entirely, or until the phase in which it was killed and the next one are done."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(killed.path, folder / killed.path.name, symlinks=True)
    run, begun = Run(folder / killed.path.name), []
    pending = run.pending()

    def listener(event):
        begun.extend([event] * (event["kind"] == "phase_started"))
        if len(begun) > 2 and not to_the_end:
            raise EnoughError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(filesystem, "disk", Unsynced())
        try:
            work(run, listener)
        except EnoughError:
            assert run.pending() == pending[2:], killed.when
        else:
            assert run.is_finished, killed.when
    left_over = {path.name for path in run.path.glob("**/*") if "partial" in path.name or path.name == "checkpoints"}
    # The next policy that is the best so far replaces half a link to the one before.
    assert left_over <= (set() if run.is_finished else {".best.partial"}), killed.when
    run.verify()
    return run


def test_a_run_resumes_from_every_point_and_ends_the_same(watched, tmp_path, capsys):
    expected, killed = watched
    phases = set()
    for point in killed:
        phase = next(iter(Run(point.path).pending()), None)
        run = resumed(point, tmp_path / "run", to_the_end=ALL_TO_THE_END or phase not in phases)
        found = results(run)
        assert found == {name: expected[name] for name in found}, point.when
        assert len(found) == len(expected) or not run.is_finished, point.when
        phases.add(phase)
    with capsys.disabled():
        print(f"\n{len(killed)} crash points in {len(phases)} phases, all with the same end")
    assert len(killed) >= 60
    assert phases == {phase.target for phase in run.outline.phases} | {None}


def test_a_run_that_is_killed_again_and_again_ends_the_same(task, watched, tmp_path):
    """Each resumed run is killed as well, at a point drawn by chance."""

    class Dead(BaseException):
        pass

    class DyingDisk(filesystem.Disk):
        """Carries some operations out and none after."""

        def __init__(self, left):
            self.left = left

        def __getattribute__(self, name):
            if name in ("write", "append", "sync", "rename", "link", "truncate", "remove"):
                self.left -= 1
                if self.left < 0:
                    raise Dead
            return super().__getattribute__(name)

    chance = random.Random(0)
    run, deaths = made(task, tmp_path), 0
    while not run.is_finished:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(filesystem, "disk", DyingDisk(chance.randrange(15, 50)))
            try:
                work(run)
            except Dead:
                deaths += 1
    assert deaths > 5
    assert results(run) == watched[0]


IO_ERROR, NO_SPACE = OSError(5, "Input/output error"), OSError(28, "No space left")


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        *itertools.product(("write", "append", "sync", "rename", "remove"), (IO_ERROR, NO_SPACE)),
        ("write", RuntimeError("x")),
    ],
)
def test_a_failing_disk_stops_the_run_and_it_continues_later(task, watched, tmp_path, operation, error):
    class FailingDisk(filesystem.Disk):
        """The tenth operation of one kind fails; MLX reports a failed write as a RuntimeError."""

        def __init__(self):
            self.left = 10

        def __getattribute__(self, name):
            if name == operation:
                self.left -= 1
                if self.left == 0:
                    raise error
            return super().__getattribute__(name)

    run = made(task, tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(filesystem, "disk", FailingDisk())
        with pytest.raises(StorageError, match="could not be written"):
            work(run)
    assert not run.is_finished
    last = list(read_events(run.events_path))[-1]
    assert (last["kind"], last["exit_code"]) == ("run_failed", 7)
    work(run)
    assert results(run) == watched[0]


def within_training(killed):
    """Some points after a checkpoint and before the end of the same phase."""
    found = [
        point
        for point in killed
        if (point.path / "iterations/001/checkpoints/step-000002").exists()
        and not (point.path / "iterations/001/adapter").exists()
    ]
    return found[::4]


def same_end(killed, folder, expected):
    """Whether a copy, resumed, has what the run that was never killed has."""
    found = results(resumed(killed, folder, to_the_end=False))
    return found == {name: expected[name] for name in found}


def test_without_the_optimizers_state_the_end_is_another(watched, tmp_path, monkeypatch):
    """The test above can fail."""
    expected, killed = watched
    points = within_training(killed)
    assert points
    monkeypatch.setattr(trainer.Trainer, "restore_optimizer", lambda self, tensors: None)
    assert not any(same_end(point, tmp_path / "run", expected) for point in points)


def test_without_the_derived_seeds_the_end_is_another(task, watched, tmp_path, monkeypatch):
    """With dropout drawn from wherever the generator stands, what is repeated is not the same."""
    monkeypatch.setattr(trainer.Trainer, "_seed", lambda self, number: None)
    mx.random.seed(1)
    run = made(task, tmp_path / "runs")
    disk = WatchedDisk(run.path, tmp_path / "killed")
    with monkeypatch.context() as patched:
        patched.setattr(filesystem, "disk", disk)
        work(run)
    points = within_training(disk.killed)
    assert points
    assert not any(same_end(point, tmp_path / "run", results(run)) for point in points)
