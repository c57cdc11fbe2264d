"""``runs compare``: compare runs, with a mean over those that differ only in their seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..options import Folder, Json
from ..output import print_json


def compare(
    names: Annotated[
        list[str] | None,
        Argument(help="Runs or folders of runs, such as a sweep's; without any, all of the folder.", metavar="RUN"),
    ] = None,
    folder: Folder = Path("runs"),
    metric: Annotated[
        str | None, Option(metavar="NAME", help="A held-out measure; by default the one that chose the best.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare runs: those that differ only in their seed are taken together, as mean ± standard error.

    Example: tspin-mlx runs compare rates --metric nll
    """
    from ...sweeps.outcomes import runs_named
    from ..comparison import comparison_row, print_comparison

    runs = runs_named(names or [], folder)
    if as_json:
        print_json(comparison_row(runs, metric))
    else:
        print_comparison(runs, metric)
