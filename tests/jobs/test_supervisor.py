"""The supervisor of an engine that breaks: it tries once more with less at once, or reports the failure."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.engine_process import BROKEN, made
from tspin_mlx.jobs.supervisor import Supervisor
from tspin_mlx.recipe.plan import BatchSizes
from tspin_mlx.runs.event_log import EventLog, read_events
from tspin_mlx.runs.lock import RunLock
from tspin_mlx.runs.state import state_of


@pytest.fixture
def supervised(task, monkeypatch):
    """Supervise a run whose engine is broken; gives the run, the exit code and the events."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    def supervise(name, fault, size=1, script=BROKEN):
        run = made(task, name, "training.iterations=1")
        run.engine_log.write_text("")
        script = script.format(fault=fault, size=size)
        monkeypatch.setattr(
            "tspin_mlx.jobs.supervisor._python", lambda module, path, trusted: [sys.executable, "-c", script, path]
        )
        monkeypatch.setattr(subprocess, "Popen", logged(subprocess.Popen, run.engine_log))
        lock = RunLock.acquire(run.path)
        code = Supervisor(run, lock, trusted=False).supervise()
        lock.close()
        return run, code, list(read_events(run.events_path))

    yield supervise
    for number, handler in handlers.items():
        signal.signal(number, handler)


def logged(popen, path):
    """The engine's outputs go where its supervisor's go; here that is pytest's."""

    def start(command, **options):
        with path.open("ab") as log:
            return popen(command, stdout=log, stderr=log, **options)

    return start


METAL = "[METAL] Command buffer execution failed: Insufficient Memory (kIOGPUCommandBufferCallbackErrorOutOfMemory)"


TIMEOUT = "[METAL] Command buffer execution failed: Caused GPU Timeout Error (kIOGPUCommandBufferCallbackErrorTimeout)"


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("out of memory", f"raise RuntimeError({METAL!r})"),
        ("Metal's resource limit", "raise RuntimeError('[metal::malloc] Resource limit (499000) exceeded.')"),
        ("the GPU watchdog", f"print({TIMEOUT!r}, file=sys.stderr, flush=True); os.abort()"),
    ],
)
def test_less_at_once_is_tried_once_where_it_may_help_and_recorded(supervised, monkeypatch, reason, fault):
    monkeypatch.setenv("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "")
    monkeypatch.delenv("AGX_RELAX_CDM_CTXSTORE_TIMEOUT")
    run, code, events = supervised(f"restart-{len(reason)}", fault)
    assert code == 0 and run.is_finished
    restarted = [event for event in events if event["kind"] == "restarted"]
    assert [(event["reason"], event["micro_batch_size"]) for event in restarted] == [(reason, 1)]
    assert [(made.reason, made.sizes) for made in run.decisions()][-1] == (reason, BatchSizes(True, 1, 1))
    assert os.environ.get("AGX_RELAX_CDM_CTXSTORE_TIMEOUT") == ("1" if "watchdog" in reason else None)
    later = events[events.index(restarted[0]) :]
    assert next(event for event in later if event["kind"] == "resumed")["done"] >= 3  # from the last checkpoint
    assert {phase.train.batch_size for phase in run.plan().train_phases} == {4}


def test_a_run_that_was_asked_to_stop_is_not_started_again(supervised):
    asked = f"import signal; os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0.5); raise RuntimeError({METAL!r})"
    run, code, events = supervised("asked", asked)
    kinds = [event["kind"] for event in events]
    assert "stopping" in kinds and "restarted" not in kinds and kinds[-1] == "run_failed"
    assert code == 4 and not run.is_finished


def test_an_engine_that_dies_silently_is_reported_after_an_earlier_end(task, supervised):
    run = made(task, "mute", "training.iterations=1")
    EventLog(run.events_path).emit("run_stopped", message="stopped", exit_code=130)
    _, code, events = supervised("mute", "", script="import os; os.kill(os.getpid(), 9)")
    assert code == 137
    assert [(event["kind"], event["exit_code"]) for event in events] == [("run_stopped", 130), ("run_stopped", 137)]


def test_the_second_failure_is_reported_with_advice(supervised):
    run, code, events = supervised("hopeless", "raise RuntimeError('[malloc] Unable to allocate 9 bytes.')", size=0)
    assert code == 4
    assert [event["kind"] for event in events].count("restarted") == 1
    assert events[-1]["kind"] == "run_failed"
    assert "out of memory" in events[-1]["message"] and "training.grad_checkpoint=true" in events[-1]["hint"]
    assert state_of(run, time.time()) == "failed"


def test_a_bug_is_not_tried_again_and_points_to_the_log(supervised):
    run, code, events = supervised("bug", "raise ValueError('what nobody thought of')")
    assert code == 1
    assert not [event for event in events if event["kind"] == "restarted"]
    assert "what nobody thought of" in events[-1]["message"] and "engine.log" in events[-1]["hint"]
    assert "Traceback" in run.engine_log.read_text()
