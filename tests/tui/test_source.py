"""Data sources, live and replay, and the run list; without a screen, with a fake clock."""

import functools
import json
import shutil

import pytest

from tests.tui.driver import TRAINING
from tspin_mlx.runs.event_log import read_events, view_of
from tspin_mlx.runs.lock import RunLock
from tspin_mlx.tui.state import listing
from tspin_mlx.tui.state.source import CHUNK_BYTES, LiveSource, ReplaySource
from tspin_mlx.view.events import parse_events
from tspin_mlx.view.run_view import RunView, reduce


class Clock:
    """A fake clock that stands still until a test moves it."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def settled(source):
    while source.poll() or not source.caught_up:
        pass
    return source.view


def test_a_finished_run_is_read_to_its_end(make_run, clock):
    run = make_run()
    source = LiveSource(run, clock)
    assert settled(source) == view_of(run.events_path)
    assert source.state == "finished"


def test_a_long_log_comes_in_parts(make_run, clock, monkeypatch):
    monkeypatch.setattr("tspin_mlx.tui.state.source.CHUNK_BYTES", 1000)
    run = make_run()
    source = LiveSource(run, clock)
    counts = []
    while source.poll() or not source.caught_up:
        counts.append(len(source.view.steps))
    assert len(counts) > 10 and counts == sorted(counts)
    assert source.view == view_of(run.events_path)


def test_new_events_and_a_dead_engine_are_noticed_within_two_seconds(make_run, clock):
    run = make_run(until=TRAINING)
    lock = RunLock.acquire(run.path)
    source = LiveSource(run, clock)
    before = settled(source)
    assert source.state in ("running", "stalled")
    with run.events_path.open("a") as log:
        log.write(json.dumps({"time": clock.now, "kind": "warning", "message": "hello"}) + "\n")
    assert source.poll() and source.view.warnings == (*before.warnings, "hello")
    lock.close()  # as the kernel does when an engine is killed
    source.poll()
    clock.now += 1.1
    assert source.poll() and source.state == "interrupted"
    again = RunLock.acquire(run.path)
    clock.now += 1.1
    assert source.poll() and source.state in ("running", "stalled")
    again.close()


def test_a_run_copied_without_its_lock_is_shown(make_run, clock):
    run = make_run(until=TRAINING)
    assert not (run.path / "lock").exists()
    source = LiveSource(run, clock)
    assert settled(source).phase == TRAINING and source.state == "interrupted"


def test_results_inherited_by_a_fork_are_shown_without_events(make_run, clock):
    run = make_run()
    run.events_path.unlink()
    assert list(LiveSource(run, clock).view.evaluations) == ["base", "initial", "iterations/000", "iterations/001"]


def test_a_replay_keeps_time_and_ends_with_the_same_view(make_run, clock):
    run = make_run()
    source = ReplaySource(run, clock)
    last = list(read_events(run.events_path))[-1]["time"]
    assert source.duration_s == pytest.approx(last - 1_700_000_001.0)
    source.poll()
    assert len(source.view.steps) == 0
    source.speed = 1.0
    clock.now += 20.5
    source.poll()
    assert source.view == functools.reduce(reduce, list(read_events(run.events_path))[:21], source_start(run))
    source.change_speed(2)
    assert source.speed == 2.0
    clock.now += source.duration_s
    source.poll()
    assert source.caught_up and source.view.steps == view_of(run.events_path).steps


def source_start(run):
    return RunView(name=run.name, phases=len(run.outline.phases))


def test_a_replay_shortens_long_pauses(make_run, clock):
    run = make_run()
    events = list(read_events(run.events_path))
    for event in events[40:]:
        event["time"] += 100_000
    run.events_path.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert ReplaySource(run, clock).duration_s < 200


def test_50_000_events_are_read_once_and_folded_in_chunks(make_run, clock, monkeypatch):
    """Count the work, since times depend on how busy the machine is; docs/tui.md has the times."""
    run = make_run(until=TRAINING)
    lines = run.events_path.read_text().splitlines()
    step = json.loads(next(line for line in lines if '"advantage/historical"' in line))
    step |= {f"more/{i}": float(i) / 7 for i in range(12)} | {"steps": 50_000}
    with run.events_path.open("a") as log:
        for number in range(7, 50_007):
            step["step"] = number
            log.write(json.dumps(step) + "\n")
    live, polls, parsed, reduced = LiveSource(run, clock), 0, [], []

    def parse(content):
        parsed.append(len(content))
        return parse_events(content)

    def counted(view, event):
        reduced.append(event)
        return reduce(view, event)

    monkeypatch.setattr("tspin_mlx.runs.event_log.parse_events", parse)
    monkeypatch.setattr("tspin_mlx.view.run_view.reduce", counted)
    while live.poll() or not live.caught_up:
        polls += 1
    size = run.events_path.stat().st_size
    assert len(live.view.steps) > 50_000 and len(live.view.steps.names()) > 20
    assert sum(parsed) == size and polls <= size / CHUNK_BYTES + 1
    assert len(reduced) <= len(lines) + polls  # the steps of a chunk are folded in one go


def test_a_run_removed_while_the_list_is_read_is_left_out(make_run, monkeypatch):
    kept, gone = make_run("kept"), make_run("gone")
    monkeypatch.setattr(listing, "run_paths", lambda folder: [gone.path, kept.path])
    shutil.rmtree(gone.path)
    assert [run.path.name for run in listing.list_runs(kept.path.parent)] == ["kept"]
