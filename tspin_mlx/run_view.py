"""What there is to see of a run: a pure fold over its events, shared by every screen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .events import Event


@dataclass(frozen=True)
class Curve:
    """One value per optimiser step of the run, and the steps at which an iteration began.

    Attributes:
        values: in the order of the steps; a step that was repeated after a crash counts once.
        marks: indices into ``values``.
        phase: of the last value.
        first: the step of that phase that was seen first.
    """

    values: tuple[float, ...] = ()
    marks: tuple[int, ...] = ()
    phase: str | None = None
    first: int = 1


@dataclass(frozen=True)
class RunView:
    """A run at one moment.

    Attributes:
        name: of the run.
        phase: target of the current phase, None between phases.
        title: of the current phase, in words.
        iteration: of the current phase; None outside self-play.
        done, total: progress within the current phase, in steps or prompts.
        tokens_per_s: of the current phase.
        step: metrics of the last optimiser step of the current phase.
        current, historical: the advantages over all steps of self-play.
        evaluations: held-out measures by policy.
        best: chosen policy.
        stopping: the run stops after this, ``step`` or ``iteration``; None while nobody asked.
        finished, stopped, failed: how it ended, if it did.
        phases_done: finished phases.
        warnings: in the order they came.
    """

    name: str = ""
    phase: str | None = None
    title: str = ""
    iteration: int | None = None
    done: int = 0
    total: int = 0
    tokens_per_s: float | None = None
    step: dict[str, float] = field(default_factory=dict)
    current: Curve = Curve()
    historical: Curve = Curve()
    evaluations: dict[str, dict[str, float]] = field(default_factory=dict)
    best: str | None = None
    stopping: str | None = None
    finished: bool = False
    stopped: str | None = None
    failed: str | None = None
    phases_done: int = 0
    warnings: tuple[str, ...] = ()


def reduce(view: RunView, event: Event) -> RunView:
    """The view after one more event."""
    return _REDUCERS.get(event["kind"], _unchanged)(view, event)


def _unchanged(view: RunView, event: Event) -> RunView:
    return view


def _run_started(view: RunView, event: Event) -> RunView:
    return replace(
        view,
        name=event["name"],
        phase=None,
        stopping=None,
        finished=False,
        stopped=None,
        failed=None,
        phases_done=event["phases_done"],
    )


def _phase_started(view: RunView, event: Event) -> RunView:
    return replace(
        view,
        phase=event["phase"],
        title=event["title"],
        iteration=event["iteration"],
        done=0,
        total=0,
        tokens_per_s=None,
        step={},
    )


def _progress(view: RunView, event: Event) -> RunView:
    return replace(view, done=event["done"], total=event["total"], tokens_per_s=event["tokens_per_s"])


def _step(view: RunView, event: Event) -> RunView:
    return replace(
        view,
        done=event["step"],
        total=event["steps"],
        tokens_per_s=event["tokens_per_s"],
        step={name: value for name, value in event.items() if isinstance(value, float) and name != "time"},
        current=_extended(view.current, event, "advantage/current"),
        historical=_extended(view.historical, event, "advantage/historical"),
    )


def _extended(curve: Curve, event: Event, name: str) -> Curve:
    """The curve with one more step. A run that was killed repeats what it had done since its last checkpoint."""
    if (value := event.get(name)) is None:
        return curve
    if event["phase"] == curve.phase:
        marks, first = curve.marks, min(curve.first, event["step"])
    else:
        marks, first = (*curve.marks, len(curve.values)), event["step"]
    known = curve.values[: marks[-1] + event["step"] - first]
    return Curve((*known, value), marks, event["phase"], first)


def _resumed(view: RunView, event: Event) -> RunView:
    return replace(view, done=event["done"], total=event["total"])


def _stopping(view: RunView, event: Event) -> RunView:
    return replace(view, stopping=event["after"])


def _restarted(view: RunView, event: Event) -> RunView:
    message = f"{event['reason']}: started again with training.micro_batch_size {event['micro_batch_size']}"
    return replace(view, warnings=(*view.warnings, message))


def _evaluated(view: RunView, event: Event) -> RunView:
    measures = {name.removeprefix("eval/"): value for name, value in event.items() if name.startswith("eval/")}
    return replace(view, evaluations={**view.evaluations, event["policy"]: measures})


def _phase_finished(view: RunView, event: Event) -> RunView:
    return replace(view, phase=None, phases_done=view.phases_done + 1)


def _warning(view: RunView, event: Event) -> RunView:
    return replace(view, warnings=(*view.warnings, event["message"]))


def _chosen(view: RunView, event: Event) -> RunView:
    return replace(view, best=event["policy"])


def _run_finished(view: RunView, event: Event) -> RunView:
    return replace(view, finished=True, phase=None)


def _run_stopped(view: RunView, event: Event) -> RunView:
    return replace(view, stopped=event["message"], phase=None)


def _run_failed(view: RunView, event: Event) -> RunView:
    return replace(view, failed=event["message"], phase=None)


_REDUCERS: dict[str, Any] = {
    "run_started": _run_started,
    "phase_started": _phase_started,
    "progress": _progress,
    "resumed": _resumed,
    "step": _step,
    "evaluated": _evaluated,
    "phase_finished": _phase_finished,
    "warning": _warning,
    "stopping": _stopping,
    "restarted": _restarted,
    "chosen": _chosen,
    "run_finished": _run_finished,
    "run_stopped": _run_stopped,
    "run_failed": _run_failed,
}
