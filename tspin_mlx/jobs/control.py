"""What can be done about a run from outside its process: stop it, go on with it, tell how it ended, remove it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..base import storage
from ..base.errors import SetupError, StorageError, UsageError
from ..base.paths import typed
from ..base.stop import STOPPED
from ..base.text import first_line
from ..runs.lock import RunLock, holder
from ..runs.run import Run
from ..view.events import Event
from .supervisor import start

#: When to stop: in the middle of what is under way, after the step, or after the iteration.
When = Literal["now", "step", "iteration"]

_BETWEEN_SIGNALS_S = 0.2


def request_stop(run: Run, when: When) -> None:
    """Ask the process that works on a run to stop, and return at once. What is finished is kept.

    Raises:
        UsageError: there is none, or it belongs to another user.
    """
    engine = holder(run.path)
    if engine is None and run.is_finished:
        raise UsageError(f"the run {run.name!r} is finished", hint=f"{command('runs show', run)} tells how it went")
    if engine is None:
        raise UsageError(f"nobody works on the run {run.name!r}", hint=f"{command('resume', run)} goes on with it")
    _signal(engine["pid"], signal.SIGUSR1 if when == "iteration" else signal.SIGTERM)
    if when == "now":
        time.sleep(_BETWEEN_SIGNALS_S)
        _signal(engine["pid"], signal.SIGTERM)


def resume(run: Run, *, trusted: bool = False, shared_by: int | None = None) -> subprocess.Popen[bytes]:
    """Go on with a run in the background.

    Args:
        shared_by: how many runs of a sweep go on at once and share the machine's memory.

    Raises:
        BusyError: another process does already.
        StorageError: the run's lock cannot be had.
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
    """What became of a run that somebody has waited for.

    Attributes:
        what: has become of it; ``stopped`` runs were asked to stop, or killed.
        message, hint: what went wrong, and what to do about it, beside going on with the run.
        exit_code: what the command that waited should return.
    """

    what: Literal["finished", "stopped", "failed"]
    message: str = ""
    hint: str | None = None
    exit_code: int = 0


def outcome(run: Run, last: Event | None, returncode: int) -> Outcome:
    """Tell what became of a run whose engine has ended.

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
    if returncode in STOPPED:  # before it could say so
        return Outcome("stopped", "stopped", exit_code=STOPPED[returncode])
    if returncode == StorageError.exit_code:
        return Outcome("failed", f"{run.path} could not be written", "make room", returncode)
    return Outcome("failed", f"the engine ended without a word; its log is {run.engine_log}", exit_code=1)


def remove(path: Path) -> None:
    """Remove a run with all that it holds. Its name is gone at once, however long the disk takes for the rest.

    Raises:
        BusyError: a process works on it.
        StorageError: it could not be removed.
    """
    lock = RunLock.acquire(path)
    try:
        storage.remove_whole(path)
    finally:
        lock.close()


def command(name: str, run: Run, *arguments: str) -> str:
    """A command about a run, for a person to type."""
    return shlex.join(["tspin-mlx", *name.split(), reference(run), *arguments])


def in_background(run: Run) -> str:
    """That a run goes on without its terminal, and how to come back to it; for a person."""
    ways = f"\n  watch it:  {command('watch', run)}\n  stop it:   {command('stop', run)}"
    return f"training goes on in the background{ways}"


def reference(run: Run) -> str:
    """How commands that are typed in the current folder call a run."""
    return run.name if run.path.parent == Path("runs") else typed(run.path)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise UsageError(f"process {pid} belongs to another user") from None
