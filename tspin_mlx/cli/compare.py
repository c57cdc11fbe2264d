"""``runs compare``: groups of runs that differ only in their seed, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..choice import better_is_lower
from ..comparison import Group, Mean, Measure, gain, groups, on_test, on_validation, policies
from ..plan import BASE, INITIAL, policy_name
from ..runs.directory import Run
from ..runs.outcomes import default_metric, outcomes, runs_named
from ..text import printable, shorten

_BEST = "best"


def compare_runs(names: list[str], folder: Path, metric: str | None, *, as_json: bool) -> None:
    """``runs compare``."""
    runs = runs_named(names, folder)
    if as_json:
        typer.echo(json.dumps(comparison_row(runs, metric), ensure_ascii=False, indent=2))
    else:
        print_comparison(runs, metric)


def comparison_row(runs: Sequence[Run], metric: str | None = None) -> dict[str, Any]:
    """The comparison as plain values: ``metric``, ``lower_is_better`` and ``groups``."""
    metric = metric or default_metric(runs)
    found = outcomes(runs, metric)
    names = [*policies(found), _BEST]
    has_test = any(run.test for run in found)
    return {
        "metric": metric,
        "lower_is_better": better_is_lower(metric),
        "groups": [
            {
                "settings": group.settings,
                "runs": [
                    {"name": run.name, "seed": run.seed, "finished": run.finished, "best": run.best}
                    for run in group.runs
                ],
                "repeated": list(group.repeated),
                "validation": {name: _row(group.mean(on_validation(name))) for name in names},
                "test": {name: _row(group.mean(on_test(name))) for name in (BASE, INITIAL, _BEST)},
                "best_minus_initial": {
                    "on": "test" if has_test else "validation",
                    **(_row(group.mean(gain(on_test if has_test else on_validation))) or {}),
                },
            }
            for group in groups(found)
        ],
    }


def print_comparison(runs: Sequence[Run], metric: str | None = None) -> None:
    """Print the tables of a comparison on stdout."""
    metric = metric or default_metric(runs)
    found = outcomes(runs, metric)
    alike = groups(found)
    console = Console(highlight=False)
    direction = "lower" if better_is_lower(metric) else "higher"
    has_test = any(run.test for run in found)
    columns = {_heading(name): on_validation(name) for name in [*policies(found), _BEST]}
    last = {} if has_test else {"best − initial": gain(on_validation)}
    console.print(_table(f"Validation, {metric} ({direction} is better)", alike, columns, last))
    if has_test:
        columns = {_heading(name): on_test(name) for name in (INITIAL, _BEST)}
        console.print(_table(f"\nTest, {metric}", alike, columns, {"best − initial": gain(on_test)}))
    for note in _notes(alike, has_test):
        console.print(Text(note, style="dim"))


def _table(title: str, alike: Sequence[Group], columns: dict[str, Measure], gains: dict[str, Measure]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    keys = list(alike[0].settings)
    for key in keys:
        table.add_column(key, overflow="fold")
    table.add_column("seeds", justify="right")
    for heading in (*columns, *gains):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in alike:
        cells = [_cell(group, measure, "{:.3f}".format) for measure in columns.values()]
        cells += [_cell(group, measure, _signed) for measure in gains.values()]
        table.add_row(*(_value(group.settings[key]) for key in keys), _seeds(group), *cells)
    return table


def _cell(group: Group, measure: Measure, shown: Callable[[float], str]) -> str:
    """A mean with its standard error; in brackets of how many runs, where some do not have it yet."""
    found = group.mean(measure)
    if found is None:
        return "–"
    error = "" if found.error is None else f" ± {found.error:.3f}"
    return f"{shown(found.value)}{error}{'' if found.count == len(group.runs) else f' ({found.count})'}"


def _seeds(group: Group) -> str:
    count = len(group.runs)
    return str(count) if group.finished == count else f"{group.finished} of {count}"


def _notes(alike: Sequence[Group], has_test: bool) -> list[str]:
    notes = []
    if any(len(group.runs) > 1 for group in alike):
        notes.append("± is the standard error over seeds; best − initial is taken in each run before its mean.")
    if not has_test:
        notes.append("Validation examples chose the best policy: measured on them it looks better than it is.")
    if any(group.finished < len(group.runs) for group in alike):
        notes.append("Runs that are not finished count with what they have.")
    if repeated := [name for group in alike for name in group.repeated]:
        notes.append(f"Left out, for they repeat another run, seed included: {', '.join(repeated)}.")
    return notes


def _heading(policy: str) -> str:
    return policy if policy == _BEST else policy_name(policy).replace("iteration", "iter.")


def _value(value: Any) -> Text:
    return Text(shorten(printable(value if isinstance(value, str) else json.dumps(value)), 40))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _row(found: Mean | None) -> dict[str, Any] | None:
    return asdict(found) if found else None
