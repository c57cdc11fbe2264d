"""Control a run from another process: stop, resume, remove, and determine its outcome."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..base import filesystem
from ..base.errors import SetupError, StorageError, UsageError
from ..base.paths import typed
from ..base.stop import STOPPED
from ..base.text import first_line
from ..runs.lock import RunLock, holder
from ..runs.run import Run
from ..view.events import Event
from .supervisor import start

#: When to stop: at once, after the step, or after the iteration.
When = Literal["now", "step", "iteration"]

_BETWEEN_SIGNALS_S = 0.2


def request_stop(run: Run, when: When) -> None:
    """Ask the process of a run to stop, and return at once. Finished work is kept.

    Raises:
        UsageError: the run is not running, or its process belongs to another user.
    """
    engine = holder(run.path)
    if engine is None and run.is_finished:
        raise UsageError(f"the run {run.name!r} is finished", hint=f"{command('runs show', run)} shows its results")
    if engine is None:
        raise UsageError(f"the run {run.name!r} is not running", hint=f"{command('resume', run)} continues it")
    _signal(engine["pid"], signal.SIGUSR1 if when == "iteration" else signal.SIGTERM)
    if when == "now":
        time.sleep(_BETWEEN_SIGNALS_S)
        _signal(engine["pid"], signal.SIGTERM)


def resume(run: Run, *, trusted: bool = False, shared_by: int | None = None) -> subprocess.Popen[bytes]:
    """Resume a run in the background.

    Args:
        shared_by: number of runs of a sweep that run at the same time and share the machine's memory.

    Raises:
        BusyError: another process is working on it.
        StorageError: the run cannot be locked.
        SetupError: no process could be started.
    """
    lock = RunLock.acquire(run.path)
    try:
        return start(run, lock, trusted=trusted, shared_by=shared_by)
    except OSError as error:
        lock.close()
        raise SetupError(f"{run.path}: the engine could not be started: {first_line(error)}") from None


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        what: the outcome; ``stopped`` runs were asked to stop, or killed.
        message, hint: what went wrong, and what to do about it, besides resuming.
        exit_code: the exit code for the command that waited for it.
    """

    what: Literal["finished", "stopped", "failed"]
    message: str = ""
    hint: str | None = None
    exit_code: int = 0


def outcome(run: Run, last: Event | None, returncode: int) -> Outcome:
    """Determine the outcome of a run whose engine has ended.

    Args:
        last: the last event since the engine was started, None if there is none.
        returncode: of its supervisor.
    """
    if run.is_finished:
        return Outcome("finished")
    if last is not None and last["kind"] == "run_failed":
        return Outcome("failed", last["message"], last["hint"], last["exit_code"])
    if last is not None and last["kind"] == "run_stopped":
        return Outcome("stopped", last["message"], exit_code=last["exit_code"])
    if returncode in STOPPED:  # before it could emit the event
        return Outcome("stopped", "stopped", exit_code=STOPPED[returncode])
    if returncode == StorageError.exit_code:
        return Outcome("failed", f"{run.path} could not be written", "free some disk space", returncode)
    return Outcome("failed", f"the engine ended without a message; its log is {run.engine_log}", exit_code=1)


def remove(path: Path) -> None:
    """Remove a run's folder. Its name is free at once, even if deleting the files takes a while.

    Raises:
        BusyError: a process is working on it.
        StorageError: it could not be removed.
    """
    lock = RunLock.acquire(path)
    try:
        filesystem.remove_whole(path)
    finally:
        lock.close()


def command(name: str, run: Run, *arguments: str) -> str:
    """Format a command about a run, to type in the shell."""
    return shlex.join(["tspin-mlx", *name.split(), reference(run), *arguments])


def in_background(run: Run) -> str:
    """Say that a run continues without its terminal, and how to watch and stop it."""
    ways = f"\n  watch it:  {command('watch', run)}\n  stop it:   {command('stop', run)}"
    return f"training continues in the background{ways}"


def reference(run: Run) -> str:
    """Return a run's name or path, as commands in the current folder take it."""
    return run.name if run.path.parent == Path("runs") else typed(run.path)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise UsageError(f"process {pid} belongs to another user") from None
