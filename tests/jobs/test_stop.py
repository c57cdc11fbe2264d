"""A run that somebody asks to stop, from the command line."""

import json
import os
import signal
import sys
import time

import pytest

from tests.support.engine_process import BROKEN, cli, finished_later, made, steps
from tests.support.waiting import until
from tspin_mlx.jobs.control import resume
from tspin_mlx.runs.event_log import read_events
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.state import state_of

#: Supervises an engine that is broken.
SUPERVISED = """
import sys
from tspin_mlx.jobs import supervisor
supervisor._python = lambda module, path, trusted: [sys.executable, "-c", {engine!r}, path]
supervisor.main()
"""


#: A step that is as long as nobody asks for a stop.
UNTIL_ASKED = "while b'\"stopping\"' not in open(sys.argv[1] + '/events.jsonl', 'rb').read(): time.sleep(0.01)"


@pytest.mark.parametrize(
    ("options", "fifth_step", "count"),
    [((), UNTIL_ASKED, 5), (("--now",), "time.sleep(60)", 4)],
    ids=["step", "now"],
)
def test_stop_waits_for_the_step_unless_it_is_now(task, reference, monkeypatch, options, fifth_step, count):
    run = made(task, f"stop-{count}")
    fault = f"print('in the step', flush=True)\n        {fifth_step}"
    script = SUPERVISED.format(engine=BROKEN.format(fault=fault, size=0))
    with monkeypatch.context() as patched:
        patched.setattr(
            "tspin_mlx.jobs.supervisor._python", lambda module, *args, trusted: [sys.executable, "-c", script, *args]
        )
        supervisor = resume(run)
    try:
        until(lambda: b"in the step" in run.engine_log.read_bytes())
        asked = cli(task, "stop", run.name, *options)
    finally:
        if is_held(run.path):
            os.killpg(supervisor.pid, signal.SIGKILL)
        code = supervisor.wait(timeout=30)
    assert asked.returncode == 0 and f"{run.name} has stopped" in asked.stderr
    last = list(read_events(run.events_path))[-1]
    assert (last["kind"], last["exit_code"], code, steps(run)) == ("run_stopped", 143, 143, count)
    assert state_of(run, time.time()) == "interrupted"
    assert finished_later(run) == reference[1]


def test_stop_after_the_iteration_finishes_it(task):
    run = made(task, "iteration", "training.iterations=40")  # on a slow machine some are over before it is asked
    assert cli(task, "resume", "iteration", "--detach").returncode == 0
    until(lambda: any(event["kind"] == "step" and event["iteration"] == 0 for event in read_events(run.events_path)))
    asked = cli(task, "stop", "iteration", "--after", "iteration")
    assert asked.returncode == 0 and "resume iteration" in asked.stderr
    until(lambda: not is_held(run.path))
    begun = list((run.path / "iterations").iterdir())
    assert 1 <= len(begun) < 40 and all((folder / "eval.json").exists() for folder in begun)
    assert (run.path / "best").exists()
    listed = json.loads(cli(task, "runs", "ls", "--json").stdout)
    assert {row["name"]: row["state"] for row in listed}["iteration"] == "interrupted"


def test_stopping_a_run_that_nobody_works_on_is_an_error(task, reference):
    done = cli(task, "stop", "reference")
    assert done.returncode == 2 and "the run 'reference' is finished" in done.stderr
    done = cli(task, "stop", made(task, "idle").name)
    assert done.returncode == 2 and "the run 'idle' is not running" in done.stderr
