"""Read one held-out measure of several runs from their evaluations and tests, for a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.errors import UsageError
from ..base.text import suggest
from ..recipe.plan import NO_INFLUENCE
from ..recipe.policy_names import BASE, INITIAL
from ..runs.policies import best_so_far
from ..runs.run import Run, find_run, named_path, run_paths
from .compare import Outcome

#: The measure that every run has.
ALWAYS_MEASURED = "nll"


def runs_named(names: Sequence[str], folder: Path) -> list[Run]:
    """Find runs by name or path, or by that of a folder of runs, such as a sweep's; without names all of ``folder``.

    The runs of a folder are in the order of their creation.

    Raises:
        UsageError: there are none, or none of that name.
    """
    runs = [run for name in names for run in _in_folder(named_path(name, folder)) or [find_run(name, folder)]]
    runs = runs if names else _in_folder(folder)
    if not runs:
        raise UsageError(f"no runs in {folder}", hint="start one with: tspin-mlx quickstart")
    return list({run.path.absolute(): run for run in runs}.values())


def _in_folder(folder: Path) -> list[Run]:
    return sorted(map(Run, run_paths(folder)), key=lambda run: run.about["created"])


def default_metric(runs: Sequence[Run]) -> str:
    """Return the measure by which the runs choose their best policy; ``nll`` if they differ."""
    chosen = {run.outline.best_metric for run in runs}
    return chosen.pop() if len(chosen) == 1 else ALWAYS_MEASURED


def outcomes(runs: Sequence[Run], metric: str) -> list[Outcome]:
    """Read the values of a measure in each run.

    Raises:
        UsageError: no run has measured it.
    """
    known = dict.fromkeys(name for run in runs for content in run.evaluations().values() for name in content["metrics"])
    if known and metric not in known:
        hint = suggest(metric, known, f"measured: {', '.join(known)}")
        raise UsageError(f"none of the runs measured {metric!r}", hint=hint)
    return [_outcome(run, metric) for run in runs]


def _outcome(run: Run, metric: str) -> Outcome:
    evaluations = run.evaluations()
    return Outcome(
        name=run.name,
        seed=run.outline.settings["run.seed"],
        settings=_settings(run),
        finished=run.is_finished,
        best=best_so_far(run)["best"] if run.is_finished else None,
        validation=_values(evaluations, metric, run.warm),
        test=_values(run.test() or {}, metric, run.warm),
    )


def _values(measured: dict[str, Any], metric: str, warm: bool) -> dict[str, float]:
    """Return the values by policy; without a warm-up the initial policy is also the base model."""
    values = {folder: part["metrics"][metric] for folder, part in measured.items() if metric in part["metrics"]}
    return values if warm or INITIAL not in values else {BASE: values[INITIAL], **values}


def _settings(run: Run) -> dict[str, Any]:
    """Collect all settings that can change results, except the seed. Data is identified by its name in the recipe: the
    digest of what was read may depend on the seed."""
    recipe = run.outline.settings
    kept = {key: value for key, value in recipe.items() if key not in NO_INFLUENCE and key != "run.seed"}
    files = {key: recipe[key] for key in ("data.train", "data.validation", "data.test")}
    model = f"{run.about['model']['name']} ({run.outline.model_fingerprint[:8]})"
    return {"model.path": model, **files, **kept}
