"""``runs export``: write a run's metrics as SVG, CSV or JSON."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from ...base import filesystem
from ...base.errors import UsageError
from ...runs.run import find_run
from ..options import Folder, RunName


def export(
    name: RunName,
    file: Annotated[Path | None, Argument(help="New file; without one, stdout.", metavar="FILE")] = None,
    as_svg: Annotated[bool, Option("--svg", help="A picture of both advantages.")] = False,
    as_csv: Annotated[bool, Option("--csv", help="A row per optimiser step, with every metric.")] = False,
    as_json: Annotated[bool, Option("--json", help="A list per metric, and the held-out measures.")] = False,
    folder: Folder = Path("runs"),
) -> None:
    """Write a run's curves as a picture, or its metrics as numbers.

    Example: tspin-mlx runs export quickstart --svg advantages.svg
    """
    from ...runs.event_log import view_of
    from ...view.chart import advantage_svg

    formats = [form for form, given in (("svg", as_svg), ("csv", as_csv), ("json", as_json)) if given]
    ending = file.suffix.removeprefix(".").lower() if file else ""
    if not formats and ending in ("svg", "csv", "json"):
        formats = [ending]
    if len(formats) != 1:
        example = f"tspin-mlx runs export {name} {file or 'advantages.svg'}"
        hint = f"for example: {Path(example).with_suffix('.svg')}; or a file that ends in .svg, .csv or .json"
        raise UsageError("give one of --svg, --csv and --json", hint=hint)
    if file is not None and file.exists():
        raise UsageError(f"{file} exists already", hint="give another name")
    run = find_run(name, folder)
    view = view_of(run.events_path)
    if not view.steps:
        raise UsageError(f"the run {run.name!r} has made no optimiser step yet")
    names = view.steps.names()
    if formats == ["svg"]:
        text = advantage_svg(view, title=run.name)
    elif formats == ["csv"]:  # missing values are empty
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["phase", "iteration", "step", *names])
        for row in view.steps:
            iteration = "" if row["iteration"] is None else row["iteration"]
            writer.writerow([row["phase"], iteration, row["step"], *(row.get(name, "") for name in names)])
        text = table.getvalue()
    else:
        columns: dict[str, Any] = {name: [row[name] for row in view.steps] for name in ("phase", "iteration", "step")}
        for name in names:
            columns[name] = [value if math.isfinite(value) else None for value in view.steps.column(name).tolist()]
        generated = [event for event in view.news if event["kind"] == "generated"]
        measured = {"evaluations": view.evaluations, "best": view.best}
        text = filesystem.to_json({"steps": columns, "generated": generated, **measured})
    if file is None:
        typer.echo(text, nl=False)
    else:
        filesystem.write_text(file, text)
        typer.echo(str(file))
