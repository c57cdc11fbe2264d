"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from . import commands_lists, commands_share, commands_train, commands_use

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart. On a terminal, tspin-mlx alone shows the runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
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


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
