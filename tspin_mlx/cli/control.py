"""``watch`` and ``stop``: what can be done about a run that works in the background."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from ..base.errors import BusyError
from ..jobs.control import When, command, request_stop
from ..runs.event_log import offset_of_last_start
from ..runs.lock import is_held
from ..runs.run import Run, find_run
from .console import say
from .follow import follow, showing
from .result import print_result
from .screens import is_terminal, show_run

_STOPPING_S = 600.0


def watch_run(name: str, folder: Path, *, as_json: bool, plain: bool, report_to: Sequence[str]) -> None:
    """``watch``: the present start of a run from its beginning, then live; of an ended run, its last."""
    run = find_run(name, folder)
    if is_terminal() and not (plain or as_json or report_to):
        show_run(run.path)
    offset = offset_of_last_start(run.events_path)
    with showing(run, as_json=as_json, plain=plain, report_to=report_to) as show:
        try:
            last = follow(run, offset, lambda: is_held(run.path), show)
        except KeyboardInterrupt:
            last = None
    if as_json:
        return
    if is_held(run.path):
        say(f"\ntraining goes on in the background; to stop it: {command('stop', run)}")
    elif run.is_finished:
        print_result(run, run.outline.samples_shown)
    else:
        say(f"\n{last['message'] if last else 'interrupted'}; to go on: {command('resume', run)}")


def stop_run(name: str, folder: Path, *, when: When) -> None:
    """``stop``: ask, and unless it may take an iteration, wait until it has happened."""
    run = find_run(name, folder)
    request_stop(run, when)
    if when == "iteration":
        say(f"{run.name} stops when the iteration is finished; to go on then: {command('resume', run)}")
        return
    _wait(run)
    say(f"{run.name} has stopped; to go on: {command('resume', run)}")


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
