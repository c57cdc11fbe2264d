"""Start a run's engine in the background, and show its progress until it ends; of a finished run, show the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from ..base.errors import TspinError, UsageError
from ..base.text import duration
from ..jobs.control import command, in_background, outcome, resume
from ..jobs.follow import follow
from ..jobs.trackers import check_trackers
from ..runs.event_log import log_size, offset_of_last_start
from ..runs.run import Run
from . import screens
from .console import say
from .follow import forwarding, showing
from .output import print_json
from .result import print_result


@dataclass(frozen=True)
class Shown:
    """How the progress of a run is shown.

    Attributes:
        as_json: every event on stdout.
        detach: not at all.
        tui: in the app.
        plain: in lines, on a terminal too.
        report_to: in these trackers as well.

    Raises:
        UsageError: the options contradict each other, the app has no terminal, or a tracker is unknown.
        SetupError: a tracker's package is missing.
    """

    as_json: bool = False
    detach: bool = False
    tui: bool = False
    plain: bool = False
    report_to: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.tui:
            if self.as_json or self.detach or self.plain:
                raise UsageError("--tui does not go together with --json, --detach or --plain")
            if not screens.is_terminal():
                raise UsageError("--tui needs a terminal", hint="leave it out: progress is then printed in lines")
        if self.report_to and (self.tui or self.detach):
            raise UsageError(
                "--report-to needs a process that watches: it does not go together with --tui or --detach",
                hint="`tspin-mlx watch RUN --report-to …` reports a run that works in the background",
            )
        check_trackers(self.report_to)

    def say(self, text: str) -> None:
        """Print a message on stderr, unless the output is JSON."""
        if not self.as_json:
            say(text)


def start(run: Run, shown: Shown, samples: int | None = None, *, trusted: bool) -> None:
    """Start the engine and watch it, unless detached; progress goes to stderr, the result or the events to stdout.

    Args:
        samples: how many answers the result shows; None is what the run's recipe says.

    Raises:
        TspinError: the run failed.
    """
    phases, pending = run.outline.phases, run.pending()
    shown.say(f"run      {run.path}: {len(phases)} phases, {run.outline.steps} optimiser steps")
    if origin := run.about["forked_from"]:
        shown.say(f"forked   from {origin['run']}, reusing the results of {len(origin['reused'])} phases")
    if 0 < len(pending) < len(phases):
        shown.say(f"done     {len(phases) - len(pending)} of {len(phases)} phases; resuming from there")
    shown.say("")
    if pending and (shown.tui or shown.detach):
        resume(run, trusted=trusted)
    if shown.tui:
        screens.show_run(run)
    if shown.detach and shown.as_json:
        print_json({"run": str(run.path), "started": bool(pending)})
        return
    if shown.detach and pending:
        say(in_background(run))
        return
    begun = time.perf_counter()
    if pending:
        _watch(run, shown, trusted=trusted)
    elif shown.as_json:
        with showing(run, as_json=True) as show:
            follow(run, offset_of_last_start(run.events_path), lambda: False, show)
    else:
        say("finished already; nothing to do\n")
        if shown.report_to:
            say(f"to report it all the same: {command('watch', run)} --report-to {shown.report_to[0]}\n")
    if not shown.as_json:
        print_result(run, samples)
        if pending:
            say(f"done in {duration(time.perf_counter() - begun)}")


def _watch(run: Run, shown: Shown, *, trusted: bool) -> None:
    """Start the engine and follow it; raise what ends the command, unless the run is finished."""
    offset = log_size(run.events_path)
    with showing(run, as_json=shown.as_json, plain=shown.plain, report_to=shown.report_to) as show:
        engine = resume(run, trusted=trusted)
        with forwarding(lambda: [run.path], shown.say):
            last = follow(run, offset, lambda: engine.poll() is None, show)
    end = outcome(run, last, engine.returncode)
    resuming = f"finished work is kept; to resume: {command('resume', run)}"
    if end.what == "stopped":
        say(f"\n{end.message}; {resuming}")
        raise typer.Exit(end.exit_code)
    if end.what == "failed":
        error = TspinError(end.message, hint="\n  → ".join(filter(None, (end.hint, resuming))))
        error.exit_code = end.exit_code
        raise error
