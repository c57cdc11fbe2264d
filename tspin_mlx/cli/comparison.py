"""Tables that compare groups of runs which differ only in their seed, for ``runs compare`` and ``sweep``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..base.text import printable, shorten, signed
from ..recipe.policy_names import BASE, BEST, INITIAL, policy_name
from ..runs.policies import better_is_lower
from ..runs.run import Run
from ..sweeps.compare import Group, Mean, Measure, gain, groups, on_test, on_validation, paired, policies
from ..sweeps.outcomes import default_metric, outcomes
from .output import plain_table

#: The cell of a group in a column of a table.
Column = Callable[[Group], Mean | None]

_WIDEST = 1000  # characters


def comparison_row(runs: Sequence[Run], metric: str | None = None) -> dict[str, Any]:
    """The comparison for JSON: ``metric``, ``lower_is_better``, ``differences_on`` which split, and ``groups``."""
    metric = metric or default_metric(runs)
    results = outcomes(runs, metric)
    names, has_test, alike = [*policies(results), BEST], any(run.test for run in results), groups(results)
    on = on_test if has_test else on_validation
    return {
        "metric": metric,
        "lower_is_better": better_is_lower(metric),
        "differences_on": "test" if has_test else "validation",
        "groups": [
            {
                "settings": group.settings,
                "runs": [{key: value for key, value in asdict(run).items() if key != "settings"} for run in group.runs],
                "repeated": list(group.repeated),
                "validation": {name: _row(group.mean(on_validation(name))) for name in names},
                "test": {name: _row(group.mean(on_test(name))) for name in (BASE, INITIAL, BEST)},
                "best_minus_initial": _row(group.mean(gain(on(BEST), on(INITIAL)))),
                "best_minus_first_group": _row(paired(group, alike[0], on(BEST))),
            }
            for group in alike
        ],
    }


def print_comparison(runs: Sequence[Run], metric: str | None = None) -> None:
    """Print the tables of a comparison on stdout."""
    metric = metric or default_metric(runs)
    results = outcomes(runs, metric)
    alike, has_test = groups(results), any(run.test for run in results)
    on = on_test if has_test else on_validation
    gains: dict[str, Column] = {"best − initial": _mean_of(gain(on(BEST), on(INITIAL)))}
    if len(alike) > 1:
        gains["best − row 1"] = lambda group: None if group is alike[0] else paired(group, alike[0], on(BEST))
    direction = "lower" if better_is_lower(metric) else "higher"
    columns = {_heading(name): _mean_of(on_validation(name)) for name in [*policies(results), BEST]}
    parts = [(f"Validation, {metric} ({direction} is better)", columns | ({} if has_test else gains))]
    if has_test:
        tested = {_heading(name): _mean_of(on_test(name)) for name in (INITIAL, BEST)}
        parts.append((f"\nTest, {metric}", tested | gains))
    console = Console(highlight=False)
    tables = [_fitting(console, alike, columns) for _, columns in parts]
    if None in tables:
        console.print(_legend(alike))
    for (title, columns), table in zip(parts, tables, strict=True):
        console.print(Text(title, style="italic"))
        shown = table if table and None not in tables else _table(alike, columns, "\n", numbered=True)
        Console(highlight=False, width=max(_width(console, shown), console.width)).print(shown)  # never cut
    notes = []
    if any(len(group.runs) > 1 for group in alike):
        notes.append("± is the standard error over seeds. Differences are taken seed by seed, then averaged.")
    if not has_test:
        notes.append("Validation examples chose the best policy: measured on them, it looks better than it is.")
    if any(group.finished < len(group.runs) for group in alike):
        notes.append("Unfinished runs count with the policies they have so far; they have no best one yet.")
    if repeated := [name for group in alike for name in group.repeated]:
        notes.append(f"Left out because they repeat another run, seed included: {', '.join(repeated)}.")
    if notes:
        console.print(Text("\n" + "\n".join(notes), style="dim"))


def _fitting(console: Console, alike: Sequence[Group], columns: dict[str, Column]) -> Table | None:
    """A row per group, with its settings, and standard errors below the means if need be; None if it is too wide."""
    for between in (" ", "\n"):
        table = _table(alike, columns, between)
        if _width(console, table) <= console.width:
            return table
    return None


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum


def _legend(alike: Sequence[Group]) -> Table:
    """The settings of the first row, and of the others those that differ from it."""
    table = plain_table("row", "settings; after the first row, those that differ from it")
    first = alike[0].settings
    for number, group in enumerate(alike, start=1):
        own = [key for key, value in group.settings.items() if number == 1 or value != first[key]]
        table.add_row(str(number), Text(", ").join(Text(f"{key} ") + _value(group.settings[key]) for key in own))
    table.add_row()
    return table


def _table(alike: Sequence[Group], columns: dict[str, Column], between: str, *, numbered: bool = False) -> Table:
    """A row per group, with the number of the row or else the settings.

    Args:
        between: a mean and its standard error.
    """
    labels = ["row"] if numbered else list(alike[0].settings)
    table = plain_table(*labels, no_wrap=True)
    table.add_column("seeds", justify="right")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for number, group in enumerate(alike, start=1):
        cells = [_cell(of(group), group, "−" in heading, between) for heading, of in columns.items()]
        own = [Text(str(number))] if numbered else [_value(group.settings[key]) for key in labels]
        count = len(group.runs)
        seeds = str(count) if group.finished == count else f"{group.finished} of {count}"
        table.add_row(*own, seeds, *cells)
    return table


def _cell(mean: Mean | None, group: Group, sign: bool, between: str) -> str:
    """A mean with its standard error; in brackets the number of runs, where some have no value yet."""
    if mean is None:
        return "–"
    error = "" if mean.error is None else f"{between}± {mean.error:.3f}"
    value = signed(mean.value, 3) if sign else f"{mean.value:.3f}"
    return f"{value}{error}{'' if mean.count == len(group.runs) else f' ({mean.count})'}"


def _mean_of(measure: Measure) -> Column:
    return lambda group: group.mean(measure)


def _heading(policy: str) -> str:
    return policy if policy == BEST else policy_name(policy).replace("iteration", "iter.")


def _value(value: Any) -> Text:
    return Text(shorten(printable(value if isinstance(value, str) else json.dumps(value)), 40))


def _row(mean: Mean | None) -> dict[str, Any] | None:
    return asdict(mean) if mean else None
