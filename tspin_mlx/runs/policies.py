"""Look up policies of a run by name (base, initial, iteration N, best), and choose the best by a held-out measure."""

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
    """List the policies that a run has so far: folders relative to the run, by name, in the order of training.

    ``best`` comes last, after the first evaluation. Without a warm-up ``base`` is the initial policy.
    """
    folders = [folder for folder in _planned(run) if run.store.has(f"{folder}/adapter")]
    by_name = {policy_name(folder): folder for folder in folders}
    if INITIAL in by_name and BASE not in by_name:
        by_name = {BASE: INITIAL, **by_name}
    if run.evaluations():
        by_name[BEST] = best_so_far(run)["best"]
    return by_name


def known_name(run: Run, name: str | int) -> str:
    """Return the name of a policy as in :func:`policies`.

    Args:
        name: ``base``, ``initial``, ``best``, or an iteration: ``2`` or ``iteration 2``.

    Raises:
        UsageError: the run has no such policy (yet).
    """
    wanted = f"iteration {int(name)}" if str(name).isdecimal() else str(name)
    known = policies(run)
    if wanted not in known:
        yet = " yet" if wanted in (*map(policy_name, _planned(run)), BASE, BEST) else ""
        raise UsageError(f"the run {run.name!r} has no policy {wanted!r}{yet}", hint=_hint(wanted, known))
    return wanted


def find_policy(run: Run, name: str | int) -> str:
    """Return the folder of a policy, relative to the run; its adapter is in ``adapter/`` there.

    Args:
        name: see :func:`known_name`.

    Raises:
        UsageError: the run has no such policy (yet).
        DamagedError: its adapter has changed since it was written.
    """
    folder = policies(run)[known_name(run, name)]
    if damaged := run.store.damaged(f"{folder}/adapter"):
        raise DamagedError(f"{run.path / damaged[0]} has changed since it was written", hint=REPAIR)
    return folder


def best_so_far(run: Run) -> dict[str, Any]:
    """Choose the best policy by the recipe's measure: ``best`` (its folder), ``metric``, ``value``, ``candidates``.

    The initial policy and the base model are candidates, so the best is never worse than the start.
    """
    measures = {folder: content["metrics"] for folder, content in run.evaluations().items()}
    return best_policy(run.outline.best_metric, measures)


def best_policy(metric: str, measures: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Choose the best policy by one held-out measure, in the form of :func:`best_so_far`.

    Args:
        measures: by the policy's folder, in the order of training.
    """
    values = {folder: each[metric] for folder, each in measures.items()}
    best = choose(values, lower=better_is_lower(metric))
    return {"best": best, "metric": metric, "value": values[best], "candidates": values}


def _planned(run: Run) -> list[str]:
    """List the folders of all policies in the run's plan."""
    targets = [phase.target for phase in run.outline.phases]
    return [target.removesuffix("/adapter") for target in targets if target.endswith("/adapter")]


def _hint(name: str, known: dict[str, str]) -> str:
    if not known:
        return "wait until the first policy is saved"
    near = known if not name.startswith("iteration") else ()
    return suggest(name, near, f"it has: {', '.join(known)}")


def better_is_lower(metric: str) -> bool:
    """Return whether a smaller value of a held-out measure is better; true for ``nll`` only."""
    return metric == "nll"


def choose(values: dict[str, float], *, lower: bool) -> str:
    """Choose the best policy; among equals the earliest, which has moved least from the base model.

    Args:
        values: measure by policy, in the order of training; not empty. NaN is the worst value.
        lower: whether a smaller value is better.
    """

    def badness(name: str) -> float:
        value = values[name] if lower else -values[name]
        return math.inf if math.isnan(value) else value

    return min(values, key=badness)
