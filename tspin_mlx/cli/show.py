"""Commands that only look: recipes, plans and runs."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base import storage
from ..base.errors import UsageError
from ..base.text import printable
from ..data.read import is_remote
from ..recipe.catalog import RecipeSource, find_recipe, packaged_recipes, parse_source
from ..recipe.phase import TrainPhase
from ..recipe.policy_names import policy_name
from ..runs.run import find_run, run_paths
from ..runs.summary import summary
from .options import print_json
from .result import print_result, skipped_line

if TYPE_CHECKING:
    from ..jobs.launch import Preview


def show_recipes(*, as_json: bool) -> None:
    """``recipes ls``."""
    rows = [(source.name, parse_source(source)) for source in packaged_recipes()]
    if as_json:
        keys = ("description", "measured")
        print_json([{"name": n, "model": r.model.path, **{k: getattr(r, k).strip() for k in keys}} for n, r in rows])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it teaches, on which model, and what was measured", overflow="fold")
    for name, recipe in rows:
        told = Text(recipe.description.strip())
        told.append(f"\nModel: {recipe.model.path}", style="dim")
        told.append(f"\nMeasured: {recipe.measured.strip()}\n" if recipe.measured else "\n", style="dim")
        table.add_row(name, told)
    Console(highlight=False).print(table)


def copy_recipe(name: str, target: Path) -> None:
    """``recipes cp``: the recipe, and the local data files that it names, beside it."""
    source = find_recipe(name)
    if target == Path() or target.is_dir():
        target = target / source.path.name
    copies = [(source.path, target)]
    data = parse_source(source).data
    for file in data.sources.values():
        if not is_remote(file) and (source.path.parent / file).is_file() and not Path(file).is_absolute():
            copies.append((source.path.parent / file, target.parent / file))
    taken = [str(copy) for _, copy in copies if copy.exists()]
    if taken:
        raise UsageError(f"{taken[0]} exists already", hint="give another name or folder")
    for original, copy in copies:
        storage.write_file(copy, partial(shutil.copyfile, original))
        typer.echo(str(copy))


def show_plan(name: str, overrides: list[str], *, as_json: bool) -> None:
    """``plan``."""
    from ..jobs.launch import preview

    source = find_recipe(name)
    found = preview(parse_source(source, overrides), source)
    if as_json:
        row = {**found.plan.to_row(), "steps": found.plan.steps, "counts_are_assumed": found.assumed}
        print_json({**row, "skipped": found.skipped})
        return
    _print_plan(found, source)


def show_runs(folder: Path, *, as_json: bool) -> None:
    """``runs ls``."""
    rows = [summary(path) for path in run_paths(folder)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo(f"no runs in {folder}; start one with: tspin-mlx quickstart", err=True)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("run", "state", "phases", "model", "best"):
        table.add_column(heading)
    for row in rows:
        best = f"{policy_name(row['best'])} ({row['metric']} {row['value']:.3f})" if row["best"] else "–"
        done = f"{row['done']}/{row['phases']}" if row["phases"] else "–"
        table.add_row(row["name"], row["state"], done, Text(printable(row["model"])), best)
    Console(highlight=False).print(table)


def show_run(name: str, folder: Path, *, as_json: bool) -> None:
    """``runs show``."""
    run = find_run(name, folder)
    if as_json:
        found = {"evaluations": run.evaluations(), "test": run.test(), "result": run.result()}
        print_json({**summary(run.path), "decisions": [asdict(made) for made in run.decisions()], **found})
        return
    print_result(run, samples=run.outline.samples_shown)


def _print_plan(found: Preview, source: RecipeSource) -> None:
    console, plan = Console(highlight=False), found.plan
    counts, recipe = plan.counts, plan.recipe
    note = " (assumed: the dataset was not read)" if found.assumed else ""
    console.print(f"recipe  {source.name}\nmodel   {recipe.model.path}")
    console.print(
        f"data    {counts['train']} training, {counts['validation']} validation, {counts['test']} test examples{note}"
    )
    if found.skipped:
        console.print(Text(skipped_line(found.skipped), style="yellow"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading, justify in (("phase", "left"), ("steps", "right"), ("rate", "right"), ("beta", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("makes")
    for phase in plan.phases:
        steps = rate = beta = ""
        if isinstance(phase, TrainPhase) and phase.train.steps:
            steps, rate = str(phase.train.steps), f"{phase.train.learning_rate:g}"
            beta = f"{phase.objective.beta:g}" if phase.kind == "train" else ""
        table.add_row(phase.title, steps, rate, beta, phase.target)
    console.print(table)
    console.print(f"{plan.steps} optimiser steps of up to {recipe.training.batch_size} examples")
