"""``run``, ``quickstart`` and ``resume``: start the engine, show what it does, and tell how to go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ..base.errors import TspinError, UsageError
from ..base.text import duration
from ..jobs.control import Outcome, command, in_background, outcome, resume
from ..jobs.trackers import check_trackers
from ..recipe.catalog import RecipeSource, find_recipe, parse_source
from ..recipe.parse import to_override
from ..recipe.schema import Recipe
from ..runs.event_log import log_size, offset_of_last_start
from ..runs.lock import busy, is_held
from ..runs.run import Run, find_run
from .console import say
from .follow import follow, forwarding, showing
from .options import print_json
from .result import print_result, skipped_line
from .screens import require_terminal
from .screens import show_run as show_on_screen


@dataclass(frozen=True)
class Shown:
    """How a run is shown while it goes on.

    Attributes:
        as_json: every event on stdout.
        detach: not at all.
        tui: on a screen of its own.
        plain: in lines, also on a terminal.
        report_to: to these trackers as well.

    Raises:
        UsageError: they contradict each other, there is no terminal for a screen, or no such tracker.
        SetupError: a tracker's package is missing.
    """

    as_json: bool = False
    detach: bool = False
    tui: bool = False
    plain: bool = False
    report_to: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.tui:
            require_terminal(as_json=self.as_json, detach=self.detach, plain=self.plain)
        if self.report_to and (self.tui or self.detach):
            raise UsageError(
                "--report-to needs a process that watches: it does not go together with --tui or --detach",
                hint="`tspin-mlx watch RUN --report-to …` reports a run that goes on elsewhere",
            )
        check_trackers(self.report_to)

    def tell(self, text: str) -> None:
        """A message, where people read along."""
        if not self.as_json:
            say(text)


def run_recipe(
    name: str,
    overrides: list[str],
    shown: Shown,
    *,
    introduce: bool = False,
    fork: str | None = None,
    trusted: bool = False,
) -> None:
    """Prepare and run; progress goes to stderr, the result (or as JSON every event) to stdout."""
    source = find_recipe(name)
    recipe = parse_source(source, overrides)
    if introduce:
        shown.tell(recipe.description.strip() + "\n")
    shown.tell(f"model    {recipe.model.path}")
    run, skipped = _prepared(recipe, source, overrides, fork, trusted, shown.tell)
    counts = run.outline.counts
    shown.tell(
        f"data     {counts['train']} training, {counts['validation']} validation, {counts['test']} test examples"
    )
    if skipped:
        shown.tell(skipped_line(skipped))
    _tell_of_run(run, shown.tell)
    _start(run, shown, trusted, recipe.evaluation.samples)


def resume_run(name: str, folder: Path, shown: Shown, *, trusted: bool) -> None:
    """``resume``."""
    run = find_run(name, folder)
    if is_held(run.path):
        raise busy(run.path)
    shown.tell(f"model    {run.about['model']['name']}")
    _tell_of_run(run, shown.tell)
    _start(run, shown, trusted, run.outline.samples_shown)


def _prepared(
    recipe: Recipe,
    source: RecipeSource,
    overrides: list[str],
    fork: str | None,
    trusted: bool,
    tell: Callable[[str], None],
) -> tuple[Run, tuple[str, ...]]:
    """The run, made or found, and the data rows that were skipped."""
    from ..jobs.launch import prepare, run_path

    path, origin = run_path(recipe, source), None
    if fork is not None:
        origin = Run(path)
        recipe = parse_source(source, [*overrides, to_override("run.name", fork)])
        path = run_path(recipe, source)
        if path == origin.path:
            raise UsageError(f"--fork {fork}: the new run needs another name than the old one")
    if is_held(path):
        raise busy(path)
    launch = prepare(recipe, source, origin=origin, trusted=trusted, on_stage=tell)
    return launch.run, launch.skipped


def _tell_of_run(run: Run, tell: Callable[[str], None]) -> None:
    phases, pending = run.outline.phases, run.pending()
    tell(f"run      {run.path}: {len(phases)} phases, {run.outline.steps} optimiser steps")
    if origin := run.about["forked_from"]:
        tell(f"forked   from {origin['run']}, whose results of {len(origin['reused'])} phases are taken over")
    if 0 < len(pending) < len(phases):
        tell(f"done     {len(phases) - len(pending)} of {len(phases)} phases; going on from there")
    tell("")


def _start(run: Run, shown: Shown, trusted: bool, samples: int) -> None:
    """Start the engine of a run in the background, and stay to watch it unless detached."""
    if shown.tui:
        if not run.is_finished:
            resume(run, trusted=trusted)
        show_on_screen(run.path)
    if run.is_finished:
        _show_finished(run, shown, samples)
        return
    begun = time.perf_counter()
    offset = log_size(run.events_path)
    if shown.detach:
        resume(run, trusted=trusted)
        if shown.as_json:
            print_json({"run": str(run.path), "started": True})
        else:
            say(in_background(run))
        return
    with showing(run, as_json=shown.as_json, plain=shown.plain, report_to=shown.report_to) as show:
        engine = resume(run, trusted=trusted)
        with forwarding(lambda: [run.path], shown.tell):
            last = follow(run, offset, lambda: engine.poll() is None, show)
    _conclude(run, outcome(run, last, engine.returncode))
    if not shown.as_json:
        print_result(run, samples)
        say(f"done in {duration(time.perf_counter() - begun)}")


def _show_finished(run: Run, shown: Shown, samples: int) -> None:
    """What there is to tell of a run with nothing left to do; as JSON, its last start once more."""
    if not shown.as_json:
        say("finished already; nothing to do\n")
        if shown.report_to:
            say(f"{command('watch', run)} --report-to {shown.report_to[0]} reports it all the same\n")
        print_result(run, samples)
    elif shown.detach:
        print_json({"run": str(run.path), "started": False})
    else:
        with showing(run, as_json=True) as show:
            follow(run, offset_of_last_start(run.events_path), lambda: False, show)


def _conclude(run: Run, end: Outcome) -> None:
    """Nothing, if the run is finished; else the way on, and the exit code."""
    way_on = f"finished work is kept; to go on: {command('resume', run)}"
    if end.what == "stopped":
        say(f"\n{end.message}; {way_on}")
        raise typer.Exit(end.exit_code)
    if end.what == "failed":
        error = TspinError(end.message, hint="\n  → ".join(filter(None, (end.hint, way_on))))
        error.exit_code = end.exit_code
        raise error
