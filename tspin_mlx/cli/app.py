"""The typer app: the commands, in the order and the groups of ``--help``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import UsageError
from . import commands_lists, commands_share, commands_train, commands_use

Commands = Mapping[str, Callable[..., None]]

_PANELS: Mapping[str, Commands] = {
    "Train": {
        "quickstart": commands_train.quickstart,
        "run": commands_train.run,
        "sweep": commands_train.sweep,
        "resume": commands_train.resume,
        "watch": commands_train.watch,
        "stop": commands_train.stop,
        "plan": commands_train.plan,
        "schema": commands_train.schema,
        "doctor": commands_train.doctor,
    },
    "Use and measure": {
        "chat": commands_use.chat,
        "samples": commands_use.samples,
        "eval": commands_use.evaluate,
    },
    "Take it elsewhere": {
        "fuse": commands_share.fuse,
        "export": commands_share.export,
        "push": commands_share.push,
    },
}
_RECIPES: Commands = {
    "ls": commands_lists.recipes_ls,
    "show": commands_lists.recipes_show,
    "cp": commands_lists.recipes_cp,
    "validate": commands_lists.recipes_validate,
}
_RUNS: Commands = {
    "ls": commands_lists.runs_ls,
    "show": commands_lists.runs_show,
    "rm": commands_lists.runs_rm,
    "compare": commands_lists.runs_compare,
    "export": commands_lists.runs_export,
}

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart. On a terminal, tspin-mlx alone shows the runs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(group: typer.Typer, commands: Commands, panel: str | None = None) -> None:
    for name, command in commands.items():
        group.command(name, rich_help_panel=panel)(command)


def _add_group(name: str, help: str, commands: Commands) -> None:
    group = typer.Typer(help=help, no_args_is_help=True)
    _add(group, commands)
    app.add_typer(group, name=name, rich_help_panel="Recipes and runs")


for _panel, _commands in _PANELS.items():
    _add(app, _commands, _panel)
_add_group("recipes", "Ready recipes, and checks of your own.", _RECIPES)
_add_group("runs", "What was run, and how it went.", _RUNS)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"tspin-mlx {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Without a command: the app on the runs of this folder.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
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
