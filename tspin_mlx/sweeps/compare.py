"""Compare groups of runs over seeds: means with standard errors, paired differences. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..recipe.policy_names import BASE, BEST, INITIAL

#: Returns a measure of a run, None if it does not have one yet.
Measure = Callable[["Outcome"], float | None]


@dataclass(frozen=True)
class Outcome:
    """The values of one measure in one run.

    Attributes:
        name: of the run.
        seed: its seed.
        settings: everything else that can change its results, by dotted key.
        finished: whether the run is finished.
        best: folder of the chosen policy, None until the run is finished: before that it may be the base model.
        validation: the measure on the validation examples, by the policy's folder.
        test: the measure on the test examples.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    finished: bool
    best: str | None
    validation: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True)
class Mean:
    """A mean over runs.

    Attributes:
        value: the mean.
        error: its standard error (sample standard deviation / √count), None with one run.
        count: number of runs.
    """

    value: float
    error: float | None
    count: int


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
        settings: the settings in which groups differ.
        runs: one for each seed.
        repeated: names of runs that repeat one of ``runs``, including its seed; they would count twice.
    """

    settings: dict[str, Any]
    runs: tuple[Outcome, ...]
    repeated: tuple[str, ...]

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return sum(run.finished for run in self.runs)

    def mean(self, measure: Measure) -> Mean | None:
        """Average a measure over the runs that have it; None if none has."""
        return mean([value for run in self.runs if (value := measure(run)) is not None])


def mean(values: Sequence[float]) -> Mean | None:
    """Compute the mean of values with its standard error; None without values.

    ``mean([1, 2, 6])`` is 3 ± 1.53: √((4 + 1 + 9) / 2) / √3.
    """
    count = len(values)
    if not count:
        return None
    center = fmean(values)
    if count == 1:
        return Mean(center, None, 1)
    variance = math.fsum((value - center) ** 2 for value in values) / (count - 1)
    return Mean(center, math.sqrt(variance / count), count)


def on_validation(policy: str) -> Measure:
    """Return the measure of a policy on the validation examples.

    Args:
        policy: its folder, or ``best``.
    """
    return lambda run: run.validation.get(_folder(run, policy))


def on_test(policy: str) -> Measure:
    """Return the measure of a policy on the test examples; ``policy`` as in :func:`on_validation`."""
    return lambda run: run.test.get(_folder(run, policy))


def gain(after: Measure, before: Measure) -> Measure:
    """Return the difference of two measures of the same run."""

    def difference(run: Outcome) -> float | None:
        last, first = after(run), before(run)
        return None if last is None or first is None else last - first

    return difference


def paired(group: Group, reference: Group, measure: Measure) -> Mean | None:
    """Average the paired differences of a measure between two groups, over the seeds that both have.

    Runs with the same seed see the same examples in the same order, so much of the variation between seeds cancels.
    """
    theirs = {run.seed: value for run in reference.runs if (value := measure(run)) is not None}
    ours = {run.seed: value for run in group.runs if (value := measure(run)) is not None}
    return mean([value - theirs[seed] for seed, value in ours.items() if seed in theirs])


def groups(outcomes: Sequence[Outcome]) -> list[Group]:
    """Group runs with equal settings, in the order of their first runs.

    Of runs that also have the same seed, the one with the most progress counts.
    """
    alike: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        alike.setdefault(json.dumps(outcome.settings, sort_keys=True), []).append(outcome)
    keys = differing([members[0].settings for members in alike.values()])
    return [_group(members, keys) for members in alike.values()]


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """List the keys whose values are not the same everywhere, in order of first appearance."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if any(each.get(key) != settings[0].get(key) for each in settings)]


def policies(outcomes: Sequence[Outcome]) -> list[str]:
    """List the folders of all measured policies, in the order in which a run trains them."""
    folders = {folder for outcome in outcomes for folder in outcome.validation}
    order = {BASE: "0", INITIAL: "1"}
    return sorted(folders, key=lambda folder: order.get(folder, f"2{folder}"))


def _group(members: list[Outcome], keys: list[str]) -> Group:
    by_seed: dict[int, Outcome] = {}
    for run in members:
        other = by_seed.get(run.seed)
        if other is None or (run.finished, len(run.validation)) > (other.finished, len(other.validation)):
            by_seed[run.seed] = run
    runs = tuple(by_seed[seed] for seed in sorted(by_seed))
    repeated = tuple(run.name for run in members if run not in runs)
    return Group({key: members[0].settings.get(key) for key in keys}, runs, repeated)


def _folder(run: Outcome, policy: str) -> str:
    return (run.best or "") if policy == BEST else policy
