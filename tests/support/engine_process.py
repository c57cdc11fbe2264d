"""An engine in a process of its own, whole or with something broken in it, and how to watch it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import command_line
from tests.support.digests import run_digests
from tests.support.small_runs import new_run, work_on
from tspin_mlx.jobs.control import resume
from tspin_mlx.runs.event_log import read_events
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.state import state_of

#: A token that must be in no file and in no output.
CANARY = "hf_canaryCANARYcanaryCANARYcanary12"

#: The engine, with something broken in it. It breaks only while more than ``size`` triplets are computed at once.
BROKEN = """
import os, sys, time
from tspin_mlx.engine import worker
from tspin_mlx.training.trainer import Trainer
step = Trainer.step
def broken(self, number, batch):
    if number > 4 and self.config.micro_batch_size > {size}:
        {fault}
    return step(self, number, batch)
Trainer.step = broken
worker.main()
"""


def made(task: Path, name: str, *changes: str) -> Run:
    """A run of the task that was not started yet."""
    return new_run(task, task / "runs", f"run.name={name}", *changes)


def cli(task: Path, *args: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder of the task, with a token in the environment."""
    return command_line.cli(*args, cwd=task, HF_TOKEN=CANARY)


@contextlib.contextmanager
def in_background(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    """Work on a run in the background; gives the supervisor's process, whose end is waited for."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_TOKEN", CANARY)
        supervisor = resume(run)
    try:
        yield supervisor
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(supervisor.pid, signal.SIGKILL)
        raise
    finally:
        supervisor.wait(timeout=60)


def environment() -> dict[str, str]:
    """Of a command at a terminal."""
    return {**os.environ, "HF_TOKEN": CANARY, "COLUMNS": "100", "NO_COLOR": "1"}


def steps(run: Run) -> int:
    """How many steps the event log has."""
    return sum(event["kind"] == "step" for event in read_events(run.events_path))


def finished_later(run: Run) -> dict[str, str]:
    """Work on a run that was interrupted until it is finished; gives the digests of its adapters."""
    work_on(run)
    assert state_of(run, time.time()) == "finished"
    return run_digests(run)
