"""``runs``: list, show, remove and compare runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text
from typer import Argument, Option

from ...base.text import printable
from ...recipe.policy_names import policy_name
from ...runs.lock import busy, is_held
from ...runs.run import find_run, named_path, run_paths
from ..console import confirm, say
from ..options import Folder, Json, RunName
from ..output import file_size, plain_table, print_json, print_table


def ls(folder: Folder = Path("runs"), as_json: Json = False) -> None:
    """List the runs in a folder.

    Example: tspin-mlx runs ls --folder runs/rates
    """
    from ...runs.summary import summary

    rows = [summary(path) for path in run_paths(folder)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo(f"no runs in {folder}; start one with: tspin-mlx quickstart", err=True)
        return
    table = plain_table("run", "state", "phases", "model", "best")
    for row in rows:
        best = f"{policy_name(row['best'])} ({row['metric']} {row['value']:.3f})" if row["best"] else "–"
        done = f"{row['done']}/{row['phases']}" if row["phases"] else "–"
        table.add_row(row["name"], row["state"], done, Text(printable(row["model"])), best)
    print_table(table)


def show(name: RunName, folder: Folder = Path("runs"), as_json: Json = False) -> None:
    """Show a run's held-out measures, its best policy, and answers before and after.

    Example: tspin-mlx runs show quickstart
    """
    from ...runs.summary import summary
    from ..result import print_result

    run = find_run(name, folder)
    if as_json:
        results = {"evaluations": run.evaluations(), "test": run.test(), "result": run.result()}
        print_json({**summary(run.path), "decisions": [asdict(made) for made in run.decisions()], **results})
    else:
        print_result(run)


def rm(
    names: Annotated[list[str], Argument(help="Runs' names in the folder, or their paths.", metavar="RUN")],
    folder: Folder = Path("runs"),
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs with all that they hold: adapters, exports, logs. What was forked from them stays whole.

    Example: tspin-mlx runs rm slower
    """
    from ...jobs.control import remove

    paths = []
    for name in dict.fromkeys(names):  # all are checked before any is removed
        path = named_path(name, folder)
        if not (path / "run.json").is_file():
            find_run(name, folder)  # raises, and suggests a name
        if is_held(path):
            raise busy(path)
        paths.append(path)
    for path in paths:
        files = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        say(f"{path}  {file_size(sum(file.lstat().st_size for file in files))}")
    if not yes:
        confirm("Remove for good?", "nothing was removed")
    for path in paths:
        remove(path)


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
