"""The typer app: the commands, in the order and the groups of ``--help``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from ..base.errors import UsageError
from .commands import recipes, run, runs, runs_export
from .commands.chat import chat
from .commands.doctor import doctor
from .commands.evaluate import evaluate
from .commands.export import export
from .commands.fuse import fuse
from .commands.plan import plan
from .commands.push import push
from .commands.samples import samples
from .commands.stop import stop
from .commands.sweep import sweep
from .commands.watch import watch

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart. On a terminal, tspin-mlx alone shows the runs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_recipes = typer.Typer(help="Ready recipes, and checks of your own.", no_args_is_help=True)
_runs = typer.Typer(help="What was run, and how it went.", no_args_is_help=True)

#: Commands by group and panel, in the order of ``--help``.
_COMMANDS: list[tuple[typer.Typer, str | None, list[Callable[..., None]]]] = [
    (app, "Train", [run.quickstart, run.run, sweep, run.resume, watch, stop, plan, recipes.schema, doctor]),
    (app, "Use and measure", [chat, samples, evaluate]),
    (app, "Take it elsewhere", [fuse, export, push]),
    (_recipes, None, [recipes.ls, recipes.show, recipes.cp, recipes.validate]),
    (_runs, None, [runs.ls, runs.show, runs.rm, runs.compare, runs_export.export]),
]
for _group, _panel, _commands in _COMMANDS:
    for _command in _commands:
        _name = "eval" if _command is evaluate else None  # by default the function's name
        _group.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(_recipes, name="recipes", rich_help_panel="Recipes and runs")
app.add_typer(_runs, name="runs", rich_help_panel="Recipes and runs")


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"tspin-mlx {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    folder: Annotated[Path | None, Option(help="Without a command: the app on the runs of this folder.")] = None,
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if context.invoked_subcommand is not None:
        if folder is not None:
            raise typer.BadParameter("--folder comes after the command")
        return
    if folder is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    from .screens import home, is_terminal

    if not is_terminal():
        raise UsageError("the app needs a terminal", hint=f"`tspin-mlx runs ls --folder {folder}` lists the runs")
    home(folder)
