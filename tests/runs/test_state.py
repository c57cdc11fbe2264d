"""The state of a run, from its lock, its files and a clock."""

import os

import pytest

from tspin_mlx.data.read import Splits
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import make_plan
from tspin_mlx.runs.create import create_run, data_digests
from tspin_mlx.runs.event_log import EventLog
from tspin_mlx.runs.lock import RunLock
from tspin_mlx.runs.state import state_of

TEXT = "data: {train: t.jsonl}\ntraining: {iterations: 1}\n"
NOW = 1_700_000_000.0


@pytest.fixture
def run(tmp_path):
    prompt = Prompt("a", (1, 2), "p", Response((3, 4), "r"), "r")
    prompts = Splits((prompt,), (prompt,), ())
    plan = make_plan(parse_recipe(TEXT, "r.yaml"), prompts.counts, "m", data_digests(prompts))
    return create_run(tmp_path / "quick", plan, TEXT, {"name": "tiny", "path": "/m", "fingerprint": "m"}, prompts)


@pytest.fixture
def worked_on(run):
    """The run while this process has its lock."""
    lock = RunLock.acquire(run.path)
    yield run
    lock.close()


def say(run, kind, **fields):
    EventLog(run.events_path).emit(kind, **fields)


def step(run, elapsed):
    say(run, "step", phase="p", iteration=0, step=1, steps=2, loss=1.0, tokens_per_s=1.0, elapsed_s=elapsed)


def last_sign(run, at, lock_at=NOW - 10**6):
    """Set when the log was written, and when the lock was."""
    if run.events_path.exists():
        os.utime(run.events_path, (at, at))
    os.utime(run.path / "lock", (lock_at, lock_at))


def finish(run):
    for phase in run.outline.phases:
        run.store.write_json(phase.target, {"signs_of_collapse": []})


def test_a_run_that_nobody_began_is_interrupted(run):
    assert state_of(run, NOW) == "interrupted"


@pytest.mark.parametrize(
    ("kind", "fields", "state"),
    [
        ("warning", {"message": "a"}, "interrupted"),
        ("run_stopped", {"message": "stopped", "exit_code": 143}, "interrupted"),
        ("run_failed", {"message": "a", "hint": None, "exit_code": 7}, "failed"),
    ],
)
def test_a_run_that_nobody_works_on_has_the_state_of_its_last_event(run, kind, fields, state):
    say(run, "run_failed", message="earlier", hint=None, exit_code=6)
    say(run, kind, **fields)
    assert state_of(run, NOW) == state


def test_a_run_whose_phases_are_all_done_is_finished_whatever_its_log_says(run):
    say(run, "run_failed", message="earlier", hint=None, exit_code=6)
    finish(run)
    assert state_of(run, NOW) == "finished"


def test_a_finished_run_that_somebody_works_on_is_running(worked_on):
    finish(worked_on)
    last_sign(worked_on, NOW, NOW)
    assert state_of(worked_on, NOW) == "running"


def test_a_failed_run_that_somebody_took_up_again_is_running(worked_on):
    say(worked_on, "run_failed", message="earlier", hint=None, exit_code=6)
    last_sign(worked_on, NOW - 1000, NOW)
    assert state_of(worked_on, NOW) == "running"


@pytest.mark.parametrize(("silence", "state"), [(0, "running"), (90, "running"), (91, "stalled"), (-5, "running")])
def test_a_run_is_stalled_after_90_seconds_of_silence(worked_on, silence, state):
    say(worked_on, "warning", message="a")
    last_sign(worked_on, NOW - silence)
    assert state_of(worked_on, NOW) == state


@pytest.mark.parametrize(("silence", "state"), [(90, "running"), (91, "stalled")])
def test_before_its_first_word_a_run_lives_since_its_lock_was_taken(worked_on, silence, state):
    last_sign(worked_on, None, NOW - silence)
    assert state_of(worked_on, NOW) == state


@pytest.mark.parametrize(
    ("elapsed", "silence", "state"),
    [
        ([15.0], 90, "running"),
        ([15.0], 91, "stalled"),
        ([20.0], 120, "running"),
        ([20.0], 121, "stalled"),
        ([1.0, 100.0, 2.0], 600, "running"),  # the slowest of the recent steps
        ([1.0, 100.0, 2.0], 601, "stalled"),
        ([0.1], 90, "running"),
    ],
)
def test_a_run_with_slow_steps_may_be_silent_for_six_of_them(worked_on, elapsed, silence, state):
    for seconds in elapsed:
        step(worked_on, seconds)
    last_sign(worked_on, NOW - silence)
    assert state_of(worked_on, NOW) == state


def test_steps_of_long_ago_do_not_count(worked_on):
    step(worked_on, 100.0)
    for _ in range(500):
        step(worked_on, 1.0)
    assert worked_on.events_path.stat().st_size > 1 << 16
    last_sign(worked_on, NOW - 91)
    assert state_of(worked_on, NOW) == "stalled"


def test_a_run_whose_worker_died_is_no_longer_running(run):
    lock = RunLock.acquire(run.path)
    say(run, "warning", message="a")
    last_sign(run, NOW, NOW)
    assert state_of(run, NOW) == "running"
    lock.close()
    assert state_of(run, NOW) == "interrupted"
