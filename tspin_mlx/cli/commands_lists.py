"""``recipes`` and ``runs``: what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Overrides, RecipeName, RunName, RunsFolder, print_json


def recipes_ls(json: Json = False) -> None:
    """List the ready recipes.

    Example: tspin-mlx recipes ls
    """
    from .show import show_recipes

    show_recipes(as_json=json)


def recipes_show(recipe: RecipeName, json: Json = False) -> None:
    """Print a recipe; with --json, with every default filled in.

    Example: tspin-mlx recipes show quickstart --json
    """
    from ..recipe.catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    if json:
        print_json(parse_source(source).model_dump(mode="json"))
    else:
        typer.echo(source.text, nl=False)


def recipes_cp(
    recipe: RecipeName,
    target: Annotated[
        Path, typer.Argument(help="New file or folder; by default NAME.yaml here.", show_default=False)
    ] = Path(),
) -> None:
    """Copy a ready recipe, to change it. Its data files are copied beside it.

    Example: tspin-mlx recipes cp quickstart my-task.yaml
    """
    from .show import copy_recipe

    copy_recipe(recipe, target)


def recipes_validate(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Check a recipe's keys and values, without reading its data; `plan` reads it.

    Example: tspin-mlx recipes validate my-task.yaml training.iterations=3
    """
    from ..recipe.catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    checked = parse_source(source, overrides or [])
    if json:
        print_json(checked.model_dump(mode="json"))
    else:
        typer.echo(f"{source.name} is valid")


def runs_ls(folder: RunsFolder = Path("runs"), json: Json = False) -> None:
    """List the runs in a folder.

    Example: tspin-mlx runs ls --folder runs/rates
    """
    from .show import show_runs

    show_runs(folder, as_json=json)


def runs_show(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
) -> None:
    """Show a run's held-out measures, its best policy, and answers before and after.

    Example: tspin-mlx runs show quickstart
    """
    from .show import show_run

    show_run(run, folder, as_json=json)


def runs_rm(
    runs: Annotated[list[str], typer.Argument(help="Runs' names in the folder, or their paths.", metavar="RUN")],
    folder: RunsFolder = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs with all that they hold: adapters, exports, logs. What was forked from them stays whole.

    Example: tspin-mlx runs rm slower
    """
    from .remove import remove_runs

    remove_runs(runs, folder, sure=yes)


def runs_compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs or folders of runs, such as a sweep's; without any, all of the folder.", metavar="RUN"
        ),
    ] = None,
    folder: RunsFolder = Path("runs"),
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="A held-out measure; by default the one that chose the best."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare runs: those that differ only in their seed are taken together, as mean ± standard error.

    Example: tspin-mlx runs compare rates --metric nll
    """
    from .compare import compare_runs

    compare_runs(runs or [], folder, metric, as_json=json)


def runs_export(
    run: RunName,
    file: Annotated[Path | None, typer.Argument(help="New file; without one, stdout.", metavar="FILE")] = None,
    svg: Annotated[bool, typer.Option("--svg", help="A picture of both advantages.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="A row per optimiser step, with every metric.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A list per metric, and the held-out measures.")] = False,
    folder: RunsFolder = Path("runs"),
) -> None:
    """Write a run's curves as a picture, or its metrics as numbers.

    Example: tspin-mlx runs export quickstart --svg advantages.svg
    """
    from .export_metrics import Format, export_metrics

    wanted: list[tuple[Format, bool]] = [("svg", svg), ("csv", csv), ("json", json)]
    export_metrics(run, folder, file, chosen=[name for name, given in wanted if given])
