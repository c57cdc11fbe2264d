"""Options and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ..recipe.policy_names import BEST

RecipeName = Annotated[str, Argument(help="A ready recipe's name, or a YAML file.", metavar="RECIPE")]
Overrides = Annotated[list[str] | None, Argument(help="Changes, such as training.iterations=3.", metavar="KEY=VALUE")]
Json = Annotated[bool, Option("--json", help="Print JSON on stdout, for programs.")]
Detach = Annotated[bool, Option("--detach", "-d", help="Return at once; training continues in the background.")]
Tui = Annotated[bool, Option("--tui", help="Watch it in the app; leaving does not stop it.")]
Plain = Annotated[bool, Option("--plain", help="Lines only, on a terminal too.")]
ReportTo = Annotated[
    list[str] | None,
    Option("--report-to", metavar="TRACKER", help="trackio, wandb, swanlab, mlflow or tensorboard; repeatable."),
]
TrustRemoteCode = Annotated[bool, Option("--trust-remote-code", help="Run the model's Python code, with your rights.")]
RunName = Annotated[str, Argument(help="A run's name in the folder, or its path.", metavar="RUN")]
Folder = Annotated[Path, Option("--folder", help="Folder that holds the runs.")]
Iteration = Annotated[int | None, Option("--iteration", min=0, metavar="N", help="The policy after iteration N.")]
Policy = Annotated[str | None, Option("--policy", metavar="NAME", help="base, initial, or best, the default.")]
ExportName = Annotated[str | None, Option("--out", "-o", help="New folder in runs/NAME/exports.", metavar="NAME")]
BaseId = Annotated[str | None, Option("--base", help="Hub id of the base model's original, if its files lack it.")]


def chosen_policies(iteration: int | None, policies: list[str] | None) -> list[str]:
    """The policies that ``--iteration`` or ``--policy`` name; by default the best."""
    if iteration is not None and policies:
        raise typer.BadParameter("give --iteration or --policy, not both")
    return [str(iteration)] if iteration is not None else policies or [BEST]


def chosen_policy(iteration: int | None, policy: str | None) -> str:
    """The one policy that ``--iteration`` or ``--policy`` names; by default the best."""
    return chosen_policies(iteration, None if policy is None else [policy])[0] or BEST
