"""All commands, their options and their help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart. On a terminal, tspin-mlx alone shows the runs.",
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
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return at once; training goes on in the background.")]
Tui = Annotated[bool, typer.Option("--tui", help="Watch it on a screen of its own; leaving that stops nothing.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model, with your rights.")
]
StopAfter = Literal["step", "iteration"]
RunName = Annotated[str, typer.Argument(help="A run's name in the folder, or its path.", metavar="RUN")]
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
def quickstart(overrides: Overrides = None, json: Json = False, detach: Detach = False, tui: Tui = False) -> None:
    """Watch the built-in model learn household commands, in a few minutes.

    Fetches a model of 93 MB the first time. The same as `tspin-mlx run quickstart`.

    Example: tspin-mlx quickstart
    """
    from .run import run_recipe

    run_recipe("quickstart", overrides or [], as_json=json, introduce=True, detach=detach, tui=tui)


@app.command()
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="NAME", help="Make a new run NAME with these settings; keep what still holds."),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run a recipe; given again, go on where it stopped.

    Training happens in a process of its own: closing the terminal does not end it, Ctrl-C does, after the step. The
    results are in runs/NAME, the best adapter in runs/NAME/best.

    Example: tspin-mlx run my-recipe.yaml training.learning_rate=2e-5 run.name=slower

    Example: tspin-mlx run my-recipe.yaml objective.beta=0.3 --fork more-history
    """
    from .run import run_recipe

    run_recipe(recipe, overrides or [], as_json=json, detach=detach, tui=tui, fork=fork, trusted=trust_remote_code)


@app.command()
def resume(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Go on with a run that was stopped, killed or failed, exactly where it was.

    Example: tspin-mlx resume quickstart
    """
    from .run import resume_run

    resume_run(run, folder, as_json=json, detach=detach, tui=tui, trusted=trust_remote_code)


@app.command()
def watch(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    plain: Annotated[bool, typer.Option("--plain", help="Lines only, also on a terminal.")] = False,
    json: Json = False,
) -> None:
    """Watch a run, whether it goes on in the background, has ended, or comes from elsewhere; leaving stops nothing.

    On a terminal this is the app; with --plain, or in a pipe, lines.

    Example: tspin-mlx watch quickstart
    """
    from .control import watch_run

    watch_run(run, folder, as_json=json, plain=plain)


@app.command()
def stop(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    after: Annotated[StopAfter, typer.Option("--after", help="Finish the step, or the whole iteration.")] = "step",
    now: Annotated[bool, typer.Option("--now", help="Finish nothing; the last checkpoint is kept.")] = False,
) -> None:
    """Stop a run; `resume` goes on with it.

    Example: tspin-mlx stop quickstart --after iteration
    """
    from .control import stop_run

    stop_run(run, folder, after=after, now=now)


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
    run: RunName,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
) -> None:
    """Show a run's held-out measures, its best policy, and answers before and after."""
    from .show import show_run

    show_run(run, folder, as_json=json)


@runs_app.command("export")
def runs_export(
    run: RunName,
    file: Annotated[Path | None, typer.Argument(help="New file; without one, stdout.", metavar="[FILE]")] = None,
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


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))
