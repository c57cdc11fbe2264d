"""``runs export``: what was measured in a run, as a picture or as numbers."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any, Literal

import typer

from ..base import storage
from ..base.errors import UsageError
from ..runs.event_log import view_of
from ..runs.run import find_run
from ..view.chart import advantage_svg
from ..view.run_view import RunView

Format = Literal["svg", "csv", "json"]


def export_metrics(name: str, folder: Path, file: Path | None, *, chosen: list[Format]) -> None:
    """Write one format to ``file``, or to stdout without one.

    Raises:
        UsageError: no format, or several; the file exists; or nothing to show.
    """
    ending = file.suffix.removeprefix(".").lower() if file else ""
    if not chosen and ending in ("svg", "csv", "json"):
        chosen = [ending]  # type: ignore[list-item]
    if len(chosen) != 1:
        example = f"tspin-mlx runs export {name} {file or 'advantages.svg'}"
        hint = f"for example: {Path(example).with_suffix('.svg')}; or a file that ends in .svg, .csv or .json"
        raise UsageError("give one of --svg, --csv and --json", hint=hint)
    if file is not None and file.exists():
        raise UsageError(f"{file} exists already", hint="give another name")
    run = find_run(name, folder)
    view = view_of(run.events_path)
    if not view.steps:
        raise UsageError(f"the run {run.name!r} has made no optimiser step yet")
    if chosen == ["svg"]:
        text = advantage_svg(view, title=run.name)
    else:
        text = _csv(view) if chosen == ["csv"] else _json(view)
    if file is None:
        typer.echo(text, nl=False)
    else:
        storage.write_text(file, text)
        typer.echo(str(file))


def _csv(view: RunView) -> str:
    """One row per optimiser step; what a step does not have is empty."""
    names = view.steps.names()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["phase", "iteration", "step", *names])
    for row in view.steps:
        iteration = "" if row["iteration"] is None else row["iteration"]
        writer.writerow([row["phase"], iteration, row["step"], *(row.get(name, "") for name in names)])
    return table.getvalue()


def _json(view: RunView) -> str:
    columns = {name: [_or_none(value) for value in view.steps.column(name).tolist()] for name in view.steps.names()}
    places: dict[str, list[Any]] = {name: [row[name] for row in view.steps] for name in ("phase", "iteration", "step")}
    generated = [event for event in view.news if event["kind"] == "generated"]
    made = {"steps": places | columns, "generated": generated, "evaluations": view.evaluations, "best": view.best}
    return storage.to_json(made)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
