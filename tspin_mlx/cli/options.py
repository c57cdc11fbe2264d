"""Arguments and options that several commands take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..recipe.policy_names import BEST

RecipeName = Annotated[str, typer.Argument(help="A ready recipe's name, or a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes of the recipe, such as training.iterations=3.", metavar="KEY=VALUE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return at once; training goes on in the background.")]
Tui = Annotated[bool, typer.Option("--tui", help="Watch it on a screen of its own; leaving that stops nothing.")]
Plain = Annotated[bool, typer.Option("--plain", help="Lines only, also on a terminal.")]
ReportTo = Annotated[
    list[str] | None,
    typer.Option("--report-to", metavar="TRACKER", help="trackio, wandb, swanlab, mlflow or tensorboard; repeatable."),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model, with your rights.")
]
SampleOrder = Literal["current", "historical", "file"]
StopAfter = Literal["step", "iteration"]
RunName = Annotated[str, typer.Argument(help="A run's name in the folder, or its path.", metavar="RUN")]
RunsFolder = Annotated[Path, typer.Option("--folder", help="Folder that holds the runs.")]
Iteration = Annotated[int | None, typer.Option("--iteration", min=0, metavar="N", help="The policy after iteration N.")]
PolicyName = Annotated[
    str | None, typer.Option("--policy", metavar="NAME", help="base, initial, or best, which is the default.")
]


def chosen_policy(iteration: int | None, policy: str | None) -> str:
    if iteration is not None and policy is not None:
        raise typer.BadParameter("give --iteration or --policy, not both")
    return policy or (BEST if iteration is None else str(iteration))


def print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))
