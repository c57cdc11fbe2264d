"""What runs came to, in one held-out measure, read for a comparison."""

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

#: What every run measures, whatever its task.
ALWAYS_MEASURED = "nll"


def runs_named(names: Sequence[str], folder: Path) -> list[Run]:
    """Runs by name, path, or the name or path of a folder of runs, such as a sweep's; without names all of ``folder``.

    Those of a folder come in the order in which they were made.

    Raises:
        UsageError: there are none, or none of that name.
    """
    found = [run for name in names for run in _in_folder(named_path(name, folder)) or [find_run(name, folder)]]
    found = found if names else _in_folder(folder)
    if not found:
        raise UsageError(f"no runs in {folder}", hint="start one with: tspin-mlx quickstart")
    return list({run.path.absolute(): run for run in found}.values())


def _in_folder(folder: Path) -> list[Run]:
    return sorted(map(Run, run_paths(folder)), key=lambda run: run.about["created"])


def default_metric(runs: Sequence[Run]) -> str:
    """The measure by which all the runs choose their best policy; ``nll`` if they do not agree."""
    chosen = {run.outline.best_metric for run in runs}
    return chosen.pop() if len(chosen) == 1 else ALWAYS_MEASURED


def outcomes(runs: Sequence[Run], metric: str) -> list[Outcome]:
    """What each run has in a measure.

    Raises:
        UsageError: no run measures it.
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
    """By policy; without a warm-up the initial policy is the model as it came."""
    values = {folder: part["metrics"][metric] for folder, part in measured.items() if metric in part["metrics"]}
    return values if warm or INITIAL not in values else {BASE: values[INITIAL], **values}


def _settings(run: Run) -> dict[str, Any]:
    """Everything but the seed that can change the results. The data are known by what the recipe calls them: the
    digest of what was read of them may depend on the seed."""
    recipe = run.outline.settings
    kept = {key: value for key, value in recipe.items() if key not in NO_INFLUENCE and key != "run.seed"}
    files = {key: recipe[key] for key in ("data.train", "data.validation", "data.test")}
    model = f"{run.about['model']['name']} ({run.outline.model_fingerprint[:8]})"
    return {"model.path": model, **files, **kept}
