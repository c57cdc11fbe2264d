"""The policies of a run by the names that people use: base, initial, iteration N, best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..base.errors import DamagedError, UsageError
from ..base.text import suggest
from ..recipe.policy_names import BASE, BEST, INITIAL, policy_name
from .run import Run
from .store import REPAIR


def policies(run: Run) -> dict[str, str]:
    """The policies that a run has so far: folders relative to the run by name, in the order they were made.

    ``best`` comes last, once something was measured. Without a warm-up ``base`` is the initial policy.
    """
    made = [folder for folder in _planned(run) if run.store.has(f"{folder}/adapter")]
    found = {policy_name(folder): folder for folder in made}
    if INITIAL in found and BASE not in found:
        found = {BASE: INITIAL, **found}
    if run.evaluations():
        found[BEST] = best_so_far(run)["best"]
    return found


def known_name(run: Run, name: str | int) -> str:
    """The name of a policy as it is in :func:`policies`.

    Args:
        name: ``base``, ``initial``, ``best``, or an iteration: ``2`` or ``iteration 2``.

    Raises:
        UsageError: the run has no such policy, or not yet.
    """
    wanted = f"iteration {int(name)}" if str(name).isdecimal() else str(name)
    known = policies(run)
    if wanted not in known:
        yet = " yet" if wanted in (*map(policy_name, _planned(run)), BASE, BEST) else ""
        raise UsageError(f"the run {run.name!r} has no policy {wanted!r}{yet}", hint=_hint(wanted, known))
    return wanted


def find_policy(run: Run, name: str | int) -> str:
    """The folder of a policy, relative to the run; its adapter is in ``adapter/`` there.

    Args:
        name: see :func:`known_name`.

    Raises:
        UsageError: the run has no such policy, or not yet.
        DamagedError: its adapter is not what was written there.
    """
    folder = policies(run)[known_name(run, name)]
    if damaged := run.store.damaged(f"{folder}/adapter"):
        raise DamagedError(f"{run.path / damaged[0]} is not what was written there", hint=REPAIR)
    return folder


def best_so_far(run: Run) -> dict[str, Any]:
    """The best policy by the recipe's held-out measure: ``best`` (its folder), ``metric``, ``value``, ``candidates``.

    The initial policy and the untouched model are candidates, so that the best is never worse than the start.
    """
    measures = {folder: content["metrics"] for folder, content in run.evaluations().items()}
    return best_policy(run.outline.best_metric, measures)


def best_policy(metric: str, measures: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The best policy by one held-out measure, in the form of :func:`best_so_far`.

    Args:
        measures: by the policy's folder, in the order in which the policies were made.
    """
    values = {folder: each[metric] for folder, each in measures.items()}
    best = choose(values, lower=better_is_lower(metric))
    return {"best": best, "metric": metric, "value": values[best], "candidates": values}


def _planned(run: Run) -> list[str]:
    """Folders of the policies that the run is to make."""
    targets = [phase.target for phase in run.outline.phases]
    return [target.removesuffix("/adapter") for target in targets if target.endswith("/adapter")]


def _hint(name: str, known: dict[str, str]) -> str:
    if not known:
        return "wait for its first policy"
    near = known if not name.startswith("iteration") else ()
    return suggest(name, near, f"it has: {', '.join(known)}")


def better_is_lower(metric: str) -> bool:
    """Whether a smaller value of a held-out measure is better; true for the likelihood loss only."""
    return metric == "nll"


def choose(values: dict[str, float], *, lower: bool) -> str:
    """The best policy; among equals the earliest, which has moved least from the model it started as.

    Args:
        values: measure by policy, in the order in which the policies came to be; not empty. What is not a
            number is worse than any.
        lower: whether a smaller value is better.
    """

    def badness(name: str) -> float:
        value = values[name] if lower else -values[name]
        return math.inf if math.isnan(value) else value

    return min(values, key=badness)
