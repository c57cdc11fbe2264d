"""Tables and charts of what runs came to: means over seeds, standard errors, differences seed by seed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from tspin_mlx.base.errors import UsageError
from tspin_mlx.base.text import signed
from tspin_mlx.recipe.policy_names import BEST, INITIAL, policy_name
from tspin_mlx.runs.policies import better_is_lower
from tspin_mlx.sweeps.compare import Group, Mean, Outcome, gain, mean, on_test, on_validation, paired

from .estimates import MOST_LINES, Estimates, estimates_svg

#: A run, as :mod:`outcomes` collects it.
Row = dict[str, Any]


def arms(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The runs of each arm, in the order in which the arms come."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["arm"], []).append(row)
    return found


def groups(rows: Sequence[Row], metric: str) -> dict[str, Group]:
    """The runs of each arm with what they have in one measure."""
    return {arm: Group({}, tuple(_outcome(row, metric) for row in runs), ()) for arm, runs in arms(rows).items()}


def _outcome(row: Row, metric: str) -> Outcome:
    validation, test = (
        {policy: measures[metric] for policy, measures in row[split].items() if metric in measures}
        for split in ("validation", "test")
    )
    return Outcome(row["name"], row["seed"], row["settings"], True, row["best"], validation, test)


def last(run: Outcome) -> float | None:
    """The last policy's measure on the validation examples."""
    return run.validation.get(max(run.validation, default=""))


def rivals(arm: str) -> list[str]:
    """What an arm is compared with: supervised training and SPIN on the same examples; with fewer also supervised
    training on all."""
    parts = re.fullmatch(r"(sft|t?spin[a-z-]*)-(\d+)", arm)
    if not parts:
        return []
    method, share = parts[1], parts[2]
    found = [] if method == "sft" else [f"sft-{share}"]
    if method.startswith("tspin"):
        found.append(f"spin-{share}")
    return found + ([] if share == "100" else ["sft-100"])


def markdown(rows: Sequence[Row], metric: str | None = None) -> str:
    """All tables of one sweep's runs.

    Args:
        metric: a held-out measure; None takes the one by which the runs choose their best policy.

    Raises:
        UsageError: nobody measured it.
    """
    metric = _measured(rows, metric)
    direction = "lower" if better_is_lower(metric) else "higher"
    seeds = "mean ± standard error over seeds, differences seed by seed"
    sections: list[tuple[str, list[str], Iterator[list[str]]]] = [
        (f"Test, {metric} ({direction} is better); {seeds}:", ["seeds", *_TESTED], _tested(rows, metric)),
        (
            "Differences of the best policies on the test examples:",
            ["less", "seeds", f"difference in {metric}"],
            _compared(rows, metric),
        ),
        (
            f"Validation, {metric}, after each iteration:",
            [*map(policy_name, _policies(rows)), "last − initial"],
            _followed(rows, metric),
        ),
        (
            f"Steadiness on the validation examples, {metric}: the worst iteration less the initial policy, the mean "
            "change from one policy to the next, and the standard deviation of the last policy over seeds:",
            ["worst − initial", "step to step", "between seeds"],
            _steadiness(rows, metric),
        ),
        (
            "The last policy on the validation examples; tokens of all iterations, seconds of one (no evaluation):",
            [*_INSIDE, "tokens trained", "sampled", "peak memory", "seconds"],
            _insides(rows),
        ),
    ]
    parts = [f"{title}\n\n{table}" for title, headings, lines in sections if (table := _table(headings, lines))]
    return "\n\n".join([*parts, _about(rows)]) + "\n"


def _measured(rows: Sequence[Row], metric: str | None) -> str:
    """The name of a measure that the runs have."""
    known = dict.fromkeys(name for row in rows for measures in row["validation"].values() for name in measures)
    if metric is not None and metric not in known:
        raise UsageError(f"no run measured {metric!r}", hint=f"measured: {', '.join(known)}")
    return metric or rows[0]["measure"]


_TESTED = ("initial", "best", "best − initial")
_INSIDE = {
    "stops": "stop_rate", "nll": "nll", "current advantage": "advantage_current",
    "historical advantage": "advantage_historical",
}  # fmt: skip


def _tested(rows: Sequence[Row], metric: str) -> Iterator[list[str]]:
    initial, best = on_test(INITIAL), on_test(BEST)
    for arm, group in groups([row for row in rows if row["test"]], metric).items():
        change = _cell(group.mean(gain(best, initial)), sign=True)
        yield [arm, str(len(group.runs)), _cell(group.mean(initial)), _cell(group.mean(best)), change]


def _compared(rows: Sequence[Row], metric: str) -> Iterator[list[str]]:
    known = groups(rows, metric)
    for arm, group in known.items():
        for rival in rivals(arm):
            if rival in known and (found := paired(group, known[rival], on_test(BEST))):
                yield [arm, rival, str(found.count), _cell(found, sign=True)]


def _followed(rows: Sequence[Row], metric: str) -> Iterator[list[str]]:
    change = gain(last, on_validation(INITIAL))
    for arm, group in groups(rows, metric).items():
        steps = [_cell(group.mean(on_validation(policy))) for policy in _policies(rows)]
        yield [arm, *steps, _cell(group.mean(change), sign=True)]


def _steadiness(rows: Sequence[Row], metric: str) -> Iterator[list[str]]:
    def course(run: Outcome) -> list[float]:
        values = map(run.validation.get, _policies(rows))
        return [value for value in values if value is not None]

    worst = max if better_is_lower(metric) else min
    for arm, group in groups(rows, metric).items():
        courses = [found for run in group.runs if len(found := course(run)) > 1]
        falls = [worst(found[1:]) - found[0] for found in courses]
        steps = [float(np.abs(np.diff(found)).mean()) for found in courses]
        spread = f"{stdev(found[-1] for found in courses):.3f}" if len(courses) > 1 else "–"
        yield [arm, _cell(mean(falls), sign=True), _cell(mean(steps)), spread]


def _insides(rows: Sequence[Row]) -> Iterator[list[str]]:
    inside = [groups(rows, name) for name in _INSIDE.values()]
    for arm, runs in arms(rows).items():
        measures = [_cell(known[arm].mean(last)) for known in inside]
        tokens = [f"{fmean(row[name] for row in runs):,.0f}" for name in ("trained_tokens", "sampled_tokens")]
        peaks = [row["peak_memory_bytes"] for row in runs if row["peak_memory_bytes"] is not None]
        peak = f"{max(peaks) / 2**30:.2f} GiB" if peaks else "–"
        seconds = [row["iteration_seconds"] for row in runs if row["iteration_seconds"] is not None]
        yield [arm, *measures, *tokens, peak, f"{fmean(seconds):.1f}" if seconds else "–"]


def _policies(rows: Sequence[Row]) -> list[str]:
    """Folders of the policies of self-play, in their order."""
    found = {policy for row in rows for policy in row["validation"] if policy.startswith("iterations/")}
    return [INITIAL, *sorted(found)]


def _about(rows: Sequence[Row]) -> str:
    """On what it was measured: machines and versions."""
    machines = dict.fromkeys(f"{row['machine'].get('device', '?')}, {row['machine']['system']}" for row in rows)
    versions = dict.fromkeys(f"{name} {number}" for row in rows for name, number in row["versions"].items())
    return f"Measured on {'; '.join(machines)}, with {', '.join(versions)}."


def _cell(found: Mean | None, *, sign: bool = False) -> str:
    if found is None:
        return "–"
    text = signed(found.value, 3)
    return (text if sign else text.removeprefix("+")) + ("" if found.error is None else f" ± {found.error:.3f}")


def _table(headings: Sequence[str], lines: Iterator[list[str]]) -> str:
    """A Markdown table of arms; nothing without lines."""
    cells = [f"| {' | '.join(line)} |" for line in lines]
    head = [f"| arm | {' | '.join(headings)} |", "| --- " * (1 + len(headings)) + "|"]
    return "\n".join([*head, *cells]) if cells else ""


def picture(rows: Sequence[Row], metric: str | None, chosen: Sequence[str] | None) -> str:
    """A measure on the validation examples over the iterations, an SVG with a line for each arm.

    Args:
        chosen: arms; None takes those that use all prompts.

    Raises:
        UsageError: a measure or an arm that is not there, or too many arms to be told apart.
    """
    metric = _measured(rows, metric)
    known = groups(rows, metric)
    names = list(chosen) if chosen else [arm for arm in known if arm.endswith("-100")]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"no arm is called {unknown[0]!r}", hint=f"there are: {', '.join(known)}")
    if not 0 < len(names) <= MOST_LINES:
        raise UsageError(f"a chart has 1 to {MOST_LINES} arms, not {len(names)}", hint="choose with --arms ARM,ARM")
    policies = _policies([row for row in rows if row["arm"] in names])
    lines = [_line(name, known[name], policies) for name in names]
    counts = sorted({len(known[name].runs) for name in names})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else counts[0]
    note = f"{metric} on the validation examples; bars: standard error over {seeds} seeds"
    return estimates_svg(lines, list(map(policy_name, policies)), title=rows[0]["sweep"], note=note)


def _line(name: str, group: Group, policies: Sequence[str]) -> Estimates:
    """An arm's means and standard errors, NaN where there is none."""
    points = [group.mean(on_validation(policy)) for policy in policies]
    # In arrays of float, None is NaN.
    values = np.array([point and point.value for point in points], float)
    return Estimates(name, values, np.array([point and point.error for point in points], float))
