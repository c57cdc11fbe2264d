"""The commands, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import UsageError
from . import commands_lists, commands_share, commands_train, commands_use

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart. On a terminal, tspin-mlx alone shows the runs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(commands_train.app)
app.add_typer(commands_use.app)
app.add_typer(commands_share.app)
app.add_typer(commands_lists.recipes_app, name="recipes", rich_help_panel="Recipes and runs")
app.add_typer(commands_lists.runs_app, name="runs", rich_help_panel="Recipes and runs")


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
