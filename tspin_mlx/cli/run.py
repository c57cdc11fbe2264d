"""``run`` and ``quickstart``: start a recipe and show it as it goes."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable

import typer

from ..catalog import RecipeSource, find_recipe, parse_source
from ..errors import TspinError
from ..events import Event
from ..launch import Launch, prepare
from ..text import duration, shorten
from .live import LiveView
from .narrate import narrate
from .result import print_result


def run_recipe(name: str, overrides: list[str], *, as_json: bool, introduce: bool) -> None:
    """Prepare and run; progress goes to stderr, the result (or with ``as_json`` every event) to stdout."""
    source = find_recipe(name)
    recipe = parse_source(source, overrides)
    say = _quiet if as_json else _say
    if introduce:
        say(recipe.description.strip() + "\n")
    say(f"model    {recipe.model.path}")
    launch = prepare(recipe, source)
    _announce(launch, say)
    started = time.perf_counter()
    try:
        if launch.run.is_finished and not as_json:
            say("finished already; nothing to do\n")
        elif as_json:
            launch.start(lambda event: print(json.dumps(event, ensure_ascii=False), flush=True))  # noqa: T201
        elif sys.stderr.isatty():
            with LiveView(len(launch.plan.phases)) as view:
                launch.start(view.show)
        else:
            launch.start(_line_by_line)
    except KeyboardInterrupt:
        say(f"\nstopped; finished phases are kept. To go on:\n  {_again(source, overrides)}")
        raise typer.Exit(130) from None
    except TspinError as error:
        error.hint = error.hint or f"finished phases are kept; to go on: {_again(source, overrides)}"
        raise
    if not as_json:
        print_result(launch.run, samples=recipe.evaluation.samples)
        say(f"done in {duration(time.perf_counter() - started)}")


def _announce(launch: Launch, say: Callable[[str], None]) -> None:
    counts = launch.plan.counts
    say(f"data     {counts['train']} training, {counts['validation']} validation, {counts['test']} test examples")
    if launch.skipped:
        say(f"skipped  {len(launch.skipped)} rows, the first: {shorten(launch.skipped[0], 90)}")
    say(f"run      {launch.run.path}: {len(launch.plan.phases)} phases, {launch.plan.steps} optimiser steps\n")


def _line_by_line(event: Event) -> None:
    line = narrate(event)
    if line is not None:
        _say(line)


def _again(source: RecipeSource, overrides: list[str]) -> str:
    packaged = source.path.parent.name == "recipes" and find_recipe(source.name).path == source.path
    return shlex.join(["tspin-mlx", "run", source.name if packaged else str(source.path), *overrides])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _quiet(text: str) -> None:
    pass
