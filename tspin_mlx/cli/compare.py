"""``runs compare``: groups of runs that differ only in their seed, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..base.text import printable, shorten, signed
from ..recipe.policy_names import BASE, BEST, INITIAL, policy_name
from ..runs.policies import better_is_lower
from ..runs.run import Run
from ..sweeps.compare import Group, Mean, Measure, Outcome, gain, groups, on_test, on_validation, paired, policies
from ..sweeps.outcomes import default_metric, outcomes, runs_named
from .options import print_json

#: What a column of a table says of a group.
Column = Callable[[Group], Mean | None]

_WIDEST = 1000  # characters


def compare_runs(names: list[str], folder: Path, metric: str | None, *, as_json: bool) -> None:
    """``runs compare``."""
    runs = runs_named(names, folder)
    if as_json:
        print_json(comparison_row(runs, metric))
    else:
        print_comparison(runs, metric)


def comparison_row(runs: Sequence[Run], metric: str | None = None) -> dict[str, Any]:
    """The comparison as plain values: ``metric``, ``lower_is_better``, what differences are ``on``, and ``groups``."""
    metric = metric or default_metric(runs)
    found = outcomes(runs, metric)
    names, has_test, alike = [*policies(found), BEST], any(run.test for run in found), groups(found)
    on = on_test if has_test else on_validation
    return {
        "metric": metric,
        "lower_is_better": better_is_lower(metric),
        "differences_on": "test" if has_test else "validation",
        "groups": [
            {
                "settings": group.settings,
                "runs": [_without_settings(run) for run in group.runs],
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
    found = outcomes(runs, metric)
    alike, has_test = groups(found), any(run.test for run in found)
    on = on_test if has_test else on_validation
    gains: dict[str, Column] = {"best − initial": _mean_of(gain(on(BEST), on(INITIAL)))}
    if len(alike) > 1:
        gains["best − row 1"] = lambda group: None if group is alike[0] else paired(group, alike[0], on(BEST))
    direction = "lower" if better_is_lower(metric) else "higher"
    columns = {_heading(name): _mean_of(on_validation(name)) for name in [*policies(found), BEST]}
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
        shown = table if table and None not in tables else _table(_numbers(alike), alike, columns, "\n")
        Console(highlight=False, width=max(_width(console, shown), console.width)).print(shown)  # rather than cut
    if notes := _notes(alike, has_test):
        console.print(Text("\n" + "\n".join(notes), style="dim"))


def _fitting(console: Console, alike: Sequence[Group], columns: dict[str, Column]) -> Table | None:
    """A row per group, with its settings; None where a line has no room for them. Standard errors may stand below."""
    for between in (" ", "\n"):
        table = _table(_settings(alike), alike, columns, between)
        if _width(console, table) <= console.width:
            return table
    return None


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum


def _settings(alike: Sequence[Group]) -> dict[str, list[Text]]:
    return {key: [_value(group.settings[key]) for group in alike] for key in alike[0].settings}


def _numbers(alike: Sequence[Group]) -> dict[str, list[Text]]:
    return {"row": [Text(str(number)) for number in range(1, len(alike) + 1)]}


def _legend(alike: Sequence[Group]) -> Table:
    """What each row of the tables has that the first one has not."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("row")
    table.add_column("settings; after the first row, those that differ from it")
    first = alike[0].settings
    for number, group in enumerate(alike, start=1):
        own = [key for key, value in group.settings.items() if number == 1 or value != first[key]]
        table.add_row(str(number), Text(", ").join(Text(f"{key} ") + _value(group.settings[key]) for key in own))
    table.add_row()
    return table


def _table(labels: dict[str, list[Text]], alike: Sequence[Group], columns: dict[str, Column], between: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for heading in labels:
        table.add_column(heading, no_wrap=True)
    table.add_column("seeds", justify="right")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for i, group in enumerate(alike):
        shown = [_cell(of(group), group, "−" in heading, between) for heading, of in columns.items()]
        table.add_row(*(cells[i] for cells in labels.values()), _seeds(group), *shown)
    return table


def _cell(found: Mean | None, group: Group, sign: bool, between: str) -> str:
    """A mean with its standard error; in brackets of how many runs, where some do not have it yet."""
    if found is None:
        return "–"
    error = "" if found.error is None else f"{between}± {found.error:.3f}"
    value = signed(found.value, 3) if sign else f"{found.value:.3f}"
    return f"{value}{error}{'' if found.count == len(group.runs) else f' ({found.count})'}"


def _mean_of(measure: Measure) -> Column:
    return lambda group: group.mean(measure)


def _seeds(group: Group) -> str:
    count = len(group.runs)
    return str(count) if group.finished == count else f"{group.finished} of {count}"


def _notes(alike: Sequence[Group], has_test: bool) -> list[str]:
    notes = []
    if any(len(group.runs) > 1 for group in alike):
        notes.append("± is the standard error over seeds. Differences are taken seed by seed before their mean.")
    if not has_test:
        notes.append("Validation examples chose the best policy: measured on them it looks better than it is.")
    if any(group.finished < len(group.runs) for group in alike):
        notes.append("Runs that are not finished count with the policies they have; a best one they do not have yet.")
    if repeated := [name for group in alike for name in group.repeated]:
        notes.append(f"Left out, for they repeat another run, seed included: {', '.join(repeated)}.")
    return notes


def _heading(policy: str) -> str:
    return policy if policy == BEST else policy_name(policy).replace("iteration", "iter.")


def _value(value: Any) -> Text:
    return Text(shorten(printable(value if isinstance(value, str) else json.dumps(value)), 40))


def _without_settings(run: Outcome) -> dict[str, Any]:
    return {name: value for name, value in asdict(run).items() if name != "settings"}


def _row(found: Mean | None) -> dict[str, Any] | None:
    return asdict(found) if found else None
