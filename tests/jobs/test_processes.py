"""The engine in a process of its own: signals, kills, full disks, and two at once."""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.support.command_line import command
from tests.support.digests import run_digests
from tests.support.engine_process import BROKEN, CANARY, cli, environment, finished_later, in_background, made, steps
from tests.support.small_runs import work_on
from tests.support.waiting import until
from tspin_mlx.base.errors import SetupError
from tspin_mlx.jobs.control import resume
from tspin_mlx.runs.event_log import read_events
from tspin_mlx.runs.lock import holder, is_held
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.state import state_of


def generating(run):
    events = [event for event in read_events(run.events_path) if event["kind"] in ("phase_started", "progress")]
    return len(events) > 2 and events[-1]["kind"] == "progress" and "synthetic" in events[-1]["phase"]


@pytest.mark.parametrize(
    ("number", "seed"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGTERM, 2), (signal.SIGINT, 3)]
)
def test_a_signal_at_any_time_loses_nothing(task, reference, number, seed):
    chance = random.Random(seed)
    run = made(task, f"signal-{seed}")
    count = chance.randrange(1, 12)  # of 18 steps
    with in_background(run):
        until(lambda: steps(run) >= count)
        time.sleep(chance.random() * 0.1)
        os.kill(until(lambda: holder(run.path))["pid"], number)
    assert not is_held(run.path)
    assert state_of(run, time.time()) == "interrupted"
    last = list(read_events(run.events_path))[-1]
    assert (last["kind"], last["exit_code"]) == ("run_stopped", {9: 137, 15: 143, 2: 130}[number])
    assert finished_later(run) == reference[1]


def test_a_kill_while_answers_are_generated_loses_at_most_a_shard(task, reference):
    run = made(task, "generation")
    with in_background(run):
        until(lambda: generating(run))
        os.kill(holder(run.path)["pid"], signal.SIGKILL)
    assert finished_later(run) == reference[1]


def test_engine_and_supervisor_killed_together_leave_an_interrupted_run(task, reference):
    run = made(task, "both")
    with in_background(run) as supervisor:
        until(lambda: steps(run) >= 5)
        engine = holder(run.path)["pid"]
        assert engine != supervisor.pid
        supervisor.kill()
        assert is_held(run.path)
        os.kill(engine, signal.SIGKILL)
    until(lambda: not is_held(run.path))
    assert state_of(run, time.time()) == "interrupted"
    assert cli(task, "resume", "both").returncode == 0
    assert run_digests(run) == reference[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_finishes_the_step_and_says_how_to_resume(task, reference, number, code):
    run_name = f"foreground-{code}"
    process = subprocess.Popen(
        command("run", "task.yaml", f"run.name={run_name}"), cwd=task, stderr=subprocess.PIPE, text=True
    )
    path = task / "runs" / run_name
    until(lambda: path.exists() and steps(Run(path)) >= 2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"tspin-mlx resume {run_name}" in said
    run = Run(path)
    events = list(read_events(run.events_path))
    assert events[-1]["kind"] == "run_stopped"
    assert "stopping" in [event["kind"] for event in events[-3:]]
    seen = [event for event in events if event["kind"] in ("step", "resumed")]
    assert not is_held(path)
    again = work_on(run)
    if (path / "initial/adapter").exists() and seen[-1]["step"] < seen[-1]["steps"]:
        first = next(event for event in again if event["kind"] == "step")
        assert first["step"] == seen[-1]["step"] + 1  # nothing was made twice
    assert run_digests(run) == reference[1]


def test_the_second_run_exits_and_names_the_first(task, reference):
    run = made(task, "twice")
    assert cli(task, "resume", "twice", "--detach").returncode == 0
    until(lambda: steps(run) >= 1)
    engine = holder(run.path)["pid"]
    os.kill(engine, signal.SIGSTOP)  # on a slow machine it would be done before the others have started
    try:
        for again in (("run", "task.yaml", "run.name=twice"), ("resume", "twice")):
            done = cli(task, *again)
            assert done.returncode == 8
            assert f"error: the run 'twice' is in use by process {engine}" in done.stderr
    finally:
        os.kill(engine, signal.SIGCONT)
    until(lambda: not is_held(run.path))
    assert run_digests(run) == reference[1]


@pytest.mark.parametrize("limit", [2_000, 6_000, 19_000], ids=["manifest", "adapter", "events"])
def test_a_full_disk_stops_the_run_and_it_continues_when_there_is_room(task, reference, limit):
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = made(task, f"full-{limit}")
    done = subprocess.run(
        command("resume", run.name), cwd=task, env=environment(), capture_output=True, text=True, preexec_fn=full
    )
    assert done.returncode == 7, done.stderr
    assert "could not be written" in done.stderr and f"tspin-mlx resume {run.name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert finished_later(run) == reference[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_signal_before_anybody_listens_is_heard_all_the_same(task, number, code, seconds):
    run = made(task, f"early-{number}-{seconds}")
    supervisor = resume(run)
    time.sleep(seconds)
    supervisor.send_signal(number)
    assert supervisor.wait(timeout=60) == code
    assert list(read_events(run.events_path))[-1]["exit_code"] == code


def test_a_start_that_fails_leaves_the_run_to_the_next(task, monkeypatch):
    run = made(task, "unlucky")

    def refuse(*args, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        with pytest.raises(SetupError, match=r"could not be started: .*temporarily unavailable"):
            resume(run)
    assert not is_held(run.path)


def test_a_second_signal_ends_the_engine_in_the_middle_of_a_step(task):
    run = made(task, "second")
    script = BROKEN.format(fault="time.sleep(600)", size=0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        engine = subprocess.Popen([sys.executable, "-c", script, str(run.path)])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    until(lambda: steps(run) == 4)
    time.sleep(0.3)
    engine.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert engine.poll() is None  # it would finish the step first
    engine.send_signal(signal.SIGINT)
    assert engine.wait(timeout=30) == 130


def test_the_token_is_in_no_file_of_any_run_above(task, reference):
    files = [path for path in (task / "runs").glob("**/*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in reference[0].stdout + reference[0].stderr
