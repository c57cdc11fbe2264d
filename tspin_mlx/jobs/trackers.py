"""Experiment trackers (wandb, trackio, SwanLab, MLflow, TensorBoard): send a run's metrics, named as in its log."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..base.errors import SetupError, UsageError
from ..base.text import first_line, suggest
from ..runs.run import Run
from ..view.events import Event

#: Trackers by name, with the package that each needs.
PACKAGES = {
    "trackio": "trackio",
    "wandb": "wandb",
    "swanlab": "swanlab",
    "mlflow": "mlflow",
    "tensorboard": "tensorboardX",
}

_MODULES = {"tensorboard": "tensorboardX"}
_PROJECT = "tspin-mlx"
_ABOUT = frozenset(("time", "kind", "phase", "policy", "step", "steps"))  # fields of events that are not metrics


class Tracker(NamedTuple):
    """An open experiment tracker.

    Attributes:
        log: takes values by name, and the number of the optimiser step in the whole run.
        finish: must be called once, at the end.
    """

    log: Callable[[dict[str, float], int], Any]
    finish: Callable[[], Any]


class Reporter:
    """Sends events to a tracker; steps that a resumed run repeats are not sent again."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._sent: set[tuple[Any, ...]] = set()
        self._steps = 0

    def tell(self, event: Event) -> None:
        """Log the metrics of a step, a generation or an evaluation."""
        if event["kind"] not in ("step", "generated", "evaluated"):
            return
        about = (event["kind"], event.get("phase"), event.get("policy"), event.get("step"))
        if about in self._sent:
            return
        self._sent.add(about)
        self._steps += event["kind"] == "step"
        values = {name: float(value) for name, value in event.items() if name not in _ABOUT and _is_number(value)}
        self._tracker.log(values, self._steps)

    def finish(self) -> None:
        """Close the tracker."""
        self._tracker.finish()


def check_trackers(names: Iterable[str]) -> None:
    """Check that trackers are known and installed, before anything is started.

    Raises:
        UsageError: no such tracker.
        SetupError: its package is missing.
    """
    for name in names:
        if name not in PACKAGES:
            raise UsageError(
                f"unknown tracker {name!r}",
                hint=suggest(name, PACKAGES, f"choose one of: {', '.join(PACKAGES)}"),
            )
        if importlib.util.find_spec(_MODULES.get(name, name)) is None:
            raise SetupError(
                f"{name} needs the package {PACKAGES[name]}, which is not installed",
                hint=f'pip install "tspin-mlx[{name}]", or in a clone: pip install -e ".[{name}]"',
            )


def open_tracker(name: str, run: Run) -> Tracker:
    """Start a run of the same name in a tracker, with the recipe as its configuration.

    Args:
        name: see :func:`check_trackers`.

    Raises:
        SetupError: the tracker could not be opened.
    """
    recipe = {key: _plain(value) for key, value in run.outline.settings.items()}
    try:
        return _OPEN.get(name, _session)(name, run, recipe)
    except Exception as error:  # trackers raise anything: no login, no network, no place to write
        raise SetupError(f"{name} could not be opened: {first_line(error)}", hint="try without --report-to") from error


def _session(name: str, run: Run, recipe: Mapping[str, Any]) -> Tracker:
    """Open a tracker with the interface of wandb, which has one run at a time."""
    module = importlib.import_module(name)
    called = {"experiment_name" if name == "swanlab" else "name": run.name}
    module.init(project=_PROJECT, config=dict(recipe), **called)
    return Tracker(lambda values, step: module.log(values, step=step), module.finish)


def _mlflow(name: str, run: Run, recipe: Mapping[str, Any]) -> Tracker:
    mlflow = importlib.import_module(name)
    mlflow.set_experiment(_PROJECT)
    mlflow.start_run(run_name=run.name)
    mlflow.log_params(dict(recipe))
    return Tracker(lambda values, step: mlflow.log_metrics(values, step=step), mlflow.end_run)


def _tensorboard(name: str, run: Run, recipe: Mapping[str, Any]) -> Tracker:
    folder: Path = run.path / "tensorboard"
    module = importlib.import_module(_MODULES[name])
    writer = module.SummaryWriter(str(folder), purge_step=0)  # all metrics are sent again
    writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in recipe.items()))

    def log(values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return Tracker(log, writer.close)


_OPEN = {"mlflow": _mlflow, "tensorboard": _tensorboard}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)
