"""``plan``: show every phase of a recipe without running it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ..options import Json, Overrides, RecipeName
from ..output import examples_text, plain_table, print_json, skipped_text


def plan(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Show what a recipe would do, without doing it: every phase, its steps, and what it makes.

    With --json also every seed. Reads and checks the data files, but needs no model and no network.

    Example: tspin-mlx plan quickstart training.iterations=4
    """
    from ...jobs.launch import preview
    from ...recipe.catalog import find_recipe, parse_source
    from ...recipe.phase import TrainPhase

    source = find_recipe(recipe)
    previewed = preview(parse_source(source, overrides or []), source)
    plan = previewed.plan
    if as_json:
        row = {**plan.to_row(), "steps": plan.steps, "counts_are_assumed": previewed.assumed}
        print_json({**row, "skipped": previewed.skipped})
        return
    console = Console(highlight=False)
    note = " (assumed: the dataset was not read)" if previewed.assumed else ""
    console.print(f"recipe  {source.name}\nmodel   {plan.recipe.model.path}")
    console.print(f"data    {examples_text(plan.counts)}{note}")
    if previewed.skipped:
        console.print(Text(skipped_text(previewed.skipped), style="yellow"))
    table = plain_table("phase", "steps", "rate", "beta", "makes", right=("steps", "rate", "beta"))
    for phase in plan.phases:
        steps = rate = beta = ""
        if isinstance(phase, TrainPhase) and phase.train.steps:
            steps, rate = str(phase.train.steps), f"{phase.train.learning_rate:g}"
            beta = f"{phase.objective.beta:g}" if phase.kind == "train" else ""
        table.add_row(phase.title, steps, rate, beta, phase.target)
    console.print(table)
    console.print(f"{plan.steps} optimiser steps of up to {plan.recipe.training.batch_size} examples")
