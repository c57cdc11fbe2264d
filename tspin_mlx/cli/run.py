"""``run``, ``quickstart`` and ``resume``: start the engine, show what it does, and tell how to go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import typer

from ..catalog import RecipeSource, find_recipe, parse_source
from ..control import Outcome, command, in_background, outcome, resume
from ..errors import TspinError, UsageError
from ..recipe import Recipe
from ..recipe_text import to_override
from ..runs.directory import Run, find_run
from ..runs.event_log import log_size, offset_of_last_start
from ..runs.lock import busy, is_held
from ..text import duration
from .follow import follow, forwarding, shown
from .options import print_json
from .result import print_result, skipped_line
from .say import say
from .screens import require_terminal
from .screens import show_run as show_on_screen


def run_recipe(
    name: str,
    overrides: list[str],
    *,
    as_json: bool = False,
    introduce: bool = False,
    detach: bool = False,
    tui: bool = False,
    plain: bool = False,
    fork: str | None = None,
    trusted: bool = False,
) -> None:
    """Prepare and run; progress goes to stderr, the result (or with ``as_json`` every event) to stdout."""
    if tui:
        require_terminal(as_json=as_json, detach=detach, plain=plain)
    source = find_recipe(name)
    recipe = parse_source(source, overrides)
    tell = _quiet if as_json else say
    if introduce:
        tell(recipe.description.strip() + "\n")
    tell(f"model    {recipe.model.path}")
    run, skipped = _prepared(recipe, source, overrides, fork, trusted, tell)
    counts = run.plan_row["counts"]
    tell(f"data     {counts['train']} training, {counts['validation']} validation, {counts['test']} test examples")
    if skipped:
        tell(skipped_line(skipped))
    _tell_of_run(run, tell)
    samples = recipe.evaluation.samples
    _start(run, as_json=as_json, detach=detach, tui=tui, plain=plain, trusted=trusted, samples=samples)


def resume_run(name: str, folder: Path, *, as_json: bool, detach: bool, tui: bool, plain: bool, trusted: bool) -> None:
    """``resume``."""
    if tui:
        require_terminal(as_json=as_json, detach=detach, plain=plain)
    run = find_run(name, folder)
    if is_held(run.path):
        raise busy(run.path)
    tell = _quiet if as_json else say
    tell(f"model    {run.about['model']['name']}")
    _tell_of_run(run, tell)
    _start(run, as_json=as_json, detach=detach, tui=tui, plain=plain, trusted=trusted)


def _prepared(
    recipe: Recipe,
    source: RecipeSource,
    overrides: list[str],
    fork: str | None,
    trusted: bool,
    tell: Callable[[str], None],
) -> tuple[Run, tuple[str, ...]]:
    """The run, made or found, and the data rows that were skipped."""
    from ..launch import prepare, run_path

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
    phases, pending = run.plan_row["phases"], run.pending()
    steps = sum(phase["updates"]["steps"] for phase in phases if phase["updates"])
    tell(f"run      {run.path}: {len(phases)} phases, {steps} optimiser steps")
    if origin := run.about["forked_from"]:
        tell(f"forked   from {origin['run']}, whose results of {len(origin['reused'])} phases are taken over")
    if 0 < len(pending) < len(phases):
        tell(f"done     {len(phases) - len(pending)} of {len(phases)} phases; going on from there")
    tell("")


def _start(
    run: Run,
    *,
    as_json: bool,
    detach: bool,
    tui: bool,
    plain: bool,
    trusted: bool,
    samples: int | None = None,
) -> None:
    """Start the engine of a run in the background, and stay to watch it unless ``detach``."""
    if tui:
        if not run.is_finished:
            resume(run, trusted=trusted)
        show_on_screen(run.path)
    tell = _quiet if as_json else say
    if samples is None:
        samples = run.plan_row["recipe"]["evaluation"]["samples"]
    if run.is_finished:
        _show_finished(run, as_json=as_json, detach=detach, samples=samples)
        return
    begun = time.perf_counter()
    offset = log_size(run.events_path)
    engine = resume(run, trusted=trusted)
    if detach and as_json:
        print_json({"run": str(run.path), "started": True})
        return
    if detach:
        tell(in_background(run))
        return
    with shown(run, as_json=as_json, plain=plain) as show, forwarding(lambda: [run.path], tell):
        last = follow(run, offset, lambda: engine.poll() is None, show)
    _conclude(run, outcome(run, last, engine.returncode))
    if not as_json:
        print_result(run, samples)
        tell(f"done in {duration(time.perf_counter() - begun)}")


def _show_finished(run: Run, *, as_json: bool, detach: bool, samples: int) -> None:
    """What there is to tell of a run with nothing left to do; with ``as_json``, its last start once more."""
    if not as_json:
        say("finished already; nothing to do\n")
        print_result(run, samples)
    elif detach:
        print_json({"run": str(run.path), "started": False})
    else:
        with shown(run, as_json=True) as show:
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


def _quiet(text: str) -> None:
    pass
