"""All commands, their options and their help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(help="Ready recipes, and checks of your own.", no_args_is_help=True)
runs_app = typer.Typer(help="What was run, and how it went.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")
app.add_typer(runs_app, name="runs")

RecipeName = Annotated[str, typer.Argument(help="A ready recipe's name, or a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes of the recipe, such as training.iterations=3.", metavar="[KEY=VALUE]..."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
RunsFolder = Annotated[Path, typer.Option("--folder", help="Folder that holds the runs.")]


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"tspin-mlx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def quickstart(overrides: Overrides = None, json: Json = False) -> None:
    """Watch the built-in model learn household commands, in a few minutes.

    Fetches a model of 93 MB the first time. The same as `tspin-mlx run quickstart`.

    Example: tspin-mlx quickstart
    """
    from .run import run_recipe

    run_recipe("quickstart", overrides or [], as_json=json, introduce=True)


@app.command()
def run(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Run a recipe; given again, go on where it stopped.

    Phases that are finished are kept. The results are in runs/NAME, the best adapter in runs/NAME/best.

    Example: tspin-mlx run my-recipe.yaml training.learning_rate=2e-5 run.name=slower
    """
    from .run import run_recipe

    run_recipe(recipe, overrides or [], as_json=json, introduce=False)


@app.command()
def plan(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Show what a recipe would do, without doing it: phases, steps, seeds.

    Reads and checks the data files, but needs no model and no network.

    Example: tspin-mlx plan quickstart training.iterations=4
    """
    from .show import show_plan

    show_plan(recipe, overrides or [], as_json=json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, with every key's meaning.

    Example: tspin-mlx schema > recipe.schema.json
    """
    from ..recipe import Recipe

    _print_json(Recipe.model_json_schema())


@recipes_app.command("ls")
def recipes_ls(json: Json = False) -> None:
    """List the ready recipes."""
    from .show import show_recipes

    show_recipes(as_json=json)


@recipes_app.command("show")
def recipes_show(recipe: RecipeName, json: Json = False) -> None:
    """Print a recipe; with --json, with every default filled in."""
    from ..catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    if json:
        _print_json(parse_source(source).model_dump(mode="json"))
    else:
        typer.echo(source.text, nl=False)


@recipes_app.command("cp")
def recipes_cp(
    recipe: RecipeName,
    target: Annotated[Path, typer.Argument(help="New file; by default NAME.yaml here.")] = Path(),
) -> None:
    """Copy a ready recipe, to change it. Its data files are copied beside it.

    Example: tspin-mlx recipes cp quickstart my-task.yaml
    """
    from .show import copy_recipe

    copy_recipe(recipe, target)


@recipes_app.command("validate")
def recipes_validate(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Check a recipe's keys and values, without reading its data."""
    from ..catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    checked = parse_source(source, overrides or [])
    if json:
        _print_json(checked.model_dump(mode="json"))
    else:
        typer.echo(f"{source.name} is valid")


@runs_app.command("ls")
def runs_ls(folder: RunsFolder = Path("runs"), json: Json = False) -> None:
    """List the runs in a folder."""
    from .show import show_runs

    show_runs(folder, as_json=json)


@runs_app.command("show")
def runs_show(
    name: Annotated[str, typer.Argument(help="A run's name in the folder, or its path.")],
    folder: RunsFolder = Path("runs"),
    json: Json = False,
) -> None:
    """Show a run's held-out measures, its best policy, and answers before and after."""
    from .show import show_run

    show_run(name, folder, as_json=json)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))
