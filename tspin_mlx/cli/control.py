"""``watch`` and ``stop``: what can be done about a run that works in the background."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import typer

from ..errors import BusyError, UsageError
from ..runs.directory import Run, find_run
from ..runs.event_log import offset_of_last_start
from ..runs.lock import holder, is_held
from .follow import follow, shown
from .result import print_result
from .run import command
from .say import say

_STOPPING_S = 600.0


def watch_run(name: str, folder: Path, *, as_json: bool, plain: bool) -> None:
    """``watch``: the present start of a run from its beginning, then live; of an ended run, its last."""
    run = find_run(name, folder)
    offset = offset_of_last_start(run.events_path)
    with shown(run, as_json=as_json, plain=plain) as show:
        try:
            last = follow(run, offset, lambda: is_held(run.path), show)
        except KeyboardInterrupt:
            last = None
    if as_json:
        return
    if is_held(run.path):
        say(f"\ntraining goes on in the background; to stop it: {command('stop', run)}")
    elif run.is_finished:
        print_result(run, run.plan_row["recipe"]["evaluation"]["samples"])
    else:
        say(f"\n{last['message'] if last else 'interrupted'}; to go on: {command('resume', run)}")


def stop_run(name: str, folder: Path, *, after: str, now: bool) -> None:
    """``stop``: ask, and unless it may take an iteration, wait until it has happened."""
    run = find_run(name, folder)
    engine = holder(run.path)
    if engine is None:
        raise UsageError(f"nobody works on the run {run.name!r}", hint=f"{command('resume', run)} goes on with it")
    if after == "iteration" and not now:
        _signal(engine["pid"], signal.SIGUSR1)
        say(f"{run.name} stops when the iteration is finished; to go on then: {command('resume', run)}")
        return
    _signal(engine["pid"], signal.SIGTERM)
    if now:
        time.sleep(0.2)
        _signal(engine["pid"], signal.SIGTERM)
    _wait(run)
    say(f"{run.name} has stopped; to go on: {command('resume', run)}")


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise UsageError(f"process {pid} belongs to another user") from None


def _wait(run: Run) -> None:
    deadline = time.monotonic() + _STOPPING_S
    with contextlib.suppress(KeyboardInterrupt):
        while is_held(run.path):
            if time.monotonic() > deadline:
                raise BusyError(
                    f"{run.name} has been asked to stop and still works",
                    hint=f"{command('stop', run)} --now ends it at once; its last checkpoint is kept",
                )
            time.sleep(0.1)
        return
    raise typer.Exit(130)
