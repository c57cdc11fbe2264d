"""The engine's process: verify the run, load the model, and run the remaining phases of the plan."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from ..base.errors import Stopped, StorageError, TspinError
from ..base.filesystem import check_space
from ..base.machine import device_name, memory_bytes
from ..base.stop import Stop, listen
from ..models.load import Policy
from ..models.of_run import load_run
from ..recipe.plan import Plan
from ..runs.event_log import EventLog
from ..runs.lock import RunLock
from ..runs.run import Run
from ..view.estimate import disk_bytes
from ..view.events import Emit, Event
from .engine import run_plan


def work(
    run: Run, listener: Callable[[Event], None] | None = None, stop: Stop | None = None, *, trusted: bool = False
) -> None:
    """Take the run's lock and run the remaining phases in this process.

    Args:
        listener: called with every event after it is written to the run's log.
        stop: for requesting an early stop.
        trusted: whether the model's own Python code may run.

    Raises:
        BusyError: another process is working on the run.
        Stopped: a stop was requested; the log records it.
        TspinError: of the matching kind; the log records it if it can be written.
    """
    with RunLock.acquire(run.path):
        work_locked(run, listener, stop, trusted=trusted)


def work_locked(
    run: Run, listener: Callable[[Event], None] | None = None, stop: Stop | None = None, *, trusted: bool = False
) -> None:
    """Run the remaining phases of a run whose lock is held by this process or the one that started it.

    Args:
        listener: called with every event after it is written to the run's log.
        stop: for requesting an early stop.
        trusted: whether the model's own Python code may run.

    Raises:
        Stopped: a stop was requested; the log records it.
        TspinError: of the matching kind; the log records it if it can be written.
    """
    log = EventLog(run.events_path, listener)
    stop = stop or Stop()
    stop.on_request = lambda after: log.emit("stopping", after=after)
    try:
        run.recover()
        run.verify()
        plan = run.plan()
        run_plan(run, plan, lambda: _load(run, plan, trusted, log.emit), log.emit, stop)
    except Stopped as stopped:
        log.emit("run_stopped", message="stopped", exit_code=stopped.exit_code)
        raise
    except TspinError as error:
        _report(log.emit, error)
        raise


def _report(emit: Emit, error: TspinError) -> None:
    with contextlib.suppress(StorageError):  # the disk is full; the exit code still reports the error
        emit("run_failed", message=error.message, hint=error.hint, exit_code=error.exit_code)


def _load(run: Run, plan: Plan, trusted: bool, emit: Emit) -> Policy:
    emit("machine", device=device_name(), memory_bytes=memory_bytes())
    policy = load_run(run, plan.recipe, trusted=trusted)
    adapter = sum(value.nbytes for value in policy.adapter().values())
    check_space(run.path, disk_bytes(plan.recipe.training.iterations, adapter))
    return policy


def main() -> None:
    """Run ``python -m tspin_mlx.engine.worker RUN [--trust-remote-code]``; the exit code reports how it ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--trust-remote-code", action="store_true")
    arguments = parser.parse_args()
    stop = Stop()
    listen(stop)
    try:
        work_locked(Run(arguments.run), stop=stop, trusted=arguments.trust_remote_code)
    except (Stopped, TspinError) as end:
        sys.exit(end.exit_code)


if __name__ == "__main__":
    main()
