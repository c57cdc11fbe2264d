"""The run view: the state of a run for display, reduced from its events by pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..recipe.phase import Phase
from .events import Event
from .steps import Steps


@dataclass(frozen=True)
class Part:
    """The optimiser steps of one phase, as a part of all steps.

    Attributes:
        phase: the phase's target.
        iteration: None outside self-play, as in the warm-up.
        start: index of its first step among all steps.
        first: the number of that step within the phase; 1 unless the log lacks its beginning.
    """

    phase: str
    iteration: int | None
    start: int
    first: int = 1


@dataclass(frozen=True)
class RunView:
    """A run at one moment. Times are seconds since 1970, as in the events.

    Attributes:
        name: of the run.
        time: of the last event.
        begun: when the run was started, the last time.
        phase: target of the current phase, None between phases.
        title: of the current phase, in words.
        iteration: of the current phase; None outside self-play.
        phase_begun: when the current phase began.
        done, total: progress within the current phase, in steps or prompts; in an evaluation, a prompt that is
            answered but not scored counts half.
        kept: how much of ``done`` was kept from before the run was started again.
        tokens_per_s: of the current phase.
        steps: all optimiser steps; one that was repeated after a crash counts once.
        parts: the phases they belong to.
        generated: ``generate/*`` of each iteration, without the prefix.
        evaluations: held-out measures by policy.
        best: chosen policy.
        stopping: the run stops after this ``step`` or ``iteration``; None without a request.
        finished, failed: how it ended, if it did; ``hint`` is what to do about a failure.
        phases, phases_done: number of all phases, and of finished ones.
        durations: duration of each finished phase, in seconds.
        machine: ``device`` and ``memory_bytes``; empty if not known yet.
        warnings: in their order.
        news: all events except ``step`` and ``progress``, in their order.
    """

    name: str = ""
    time: float = 0.0
    begun: float = 0.0
    phase: str | None = None
    title: str = ""
    iteration: int | None = None
    phase_begun: float = 0.0
    done: int = 0
    total: int = 0
    kept: int = 0
    tokens_per_s: float | None = None
    steps: Steps = field(default_factory=Steps)
    parts: tuple[Part, ...] = ()
    generated: dict[int, dict[str, float]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, float]] = field(default_factory=dict)
    best: str | None = None
    stopping: str | None = None
    finished: bool = False
    failed: str | None = None
    hint: str | None = None
    phases: int = 0
    phases_done: int = 0
    durations: dict[str, float] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    news: tuple[Event, ...] = ()

    @property
    def step(self) -> Event:
        """The last optimiser step of the current phase; empty if it has none."""
        return self.steps[-1] if self.steps and self.steps[-1]["phase"] == self.phase else {}

    @property
    def self_play(self) -> tuple[Part, ...]:
        """The parts that have advantages."""
        return tuple(part for part in self.parts if part.iteration is not None)

    def phase_remaining_s(self) -> float | None:
        """Estimate the seconds until the current phase is done from its speed so far; None if it is not known."""
        progress = self.done - self.kept
        if not self.total or progress <= 0:
            return None
        return (self.total - self.done) * (self.time - self.phase_begun) / progress


def remaining_s(view: RunView, phases: Sequence[Phase]) -> float | None:
    """Estimate the seconds until the run is done; None until each kind of phase that is left has been done once.

    Args:
        phases: all phases of the plan.
    """
    took = {phase.kind: view.durations[phase.target] for phase in phases if phase.target in view.durations}
    targets = [phase.target for phase in phases]
    if view.phase not in targets:
        return None
    current = targets.index(view.phase)
    left = view.phase_remaining_s()
    if left is None:
        left = took.get(phases[current].kind)
    ahead = [took.get(phase.kind, 0.0 if phase.facts.quick else None) for phase in phases[current + 1 :]]
    return None if left is None or None in ahead else left + sum(seconds for seconds in ahead if seconds)


def reduce(view: RunView, event: Event) -> RunView:
    """Return the view after one more event."""
    changes = _changes(view, event)
    if changes is None:
        return view
    if event["kind"] not in ("step", "progress"):
        changes["news"] = (*view.news, event)
    return replace(view, time=event["time"], **changes)


def reduce_all(view: RunView, events: Iterable[Event]) -> RunView:
    """Return the view after more events: the same as :func:`reduce` for each, but faster for consecutive steps."""
    waiting: list[Event] = []
    for event in events:
        if waiting and _follows(waiting[-1], event):
            waiting.append(event)
            continue
        view = _after_steps(view, waiting)
        waiting = []
        if event["kind"] == "step":
            waiting.append(event)
        else:
            view = reduce(view, event)
    return _after_steps(view, waiting)


def _follows(step: Event, event: Event) -> bool:
    if event["kind"] != "step" or event["phase"] != step["phase"]:
        return False
    return bool(event["step"] == step["step"] + 1)


def _after_steps(view: RunView, steps: list[Event]) -> RunView:
    """Return the view after consecutive steps of one phase."""
    if not steps:
        return view
    first, *others = steps
    view = reduce(view, first)
    if not others:
        return view
    last = others[-1]
    return replace(
        view,
        time=last["time"],
        done=last["step"],
        total=last["steps"],
        tokens_per_s=last["tokens_per_s"],
        steps=view.steps.followed_by_all(others),
    )


def _changes(view: RunView, event: Event) -> dict[str, Any] | None:
    """Return the fields of the view that an event changes; None for an unknown kind of event."""
    match event["kind"]:
        case "run_started":
            fresh = {"phase": None, "stopping": None, "finished": False, "failed": None, "hint": None}
            counts = {"phases": event["phases"], "phases_done": event["phases_done"]}
            return {"name": event["name"], "begun": event["time"], **fresh, **counts}
        case "machine":
            return {"machine": {"device": event["device"], "memory_bytes": event["memory_bytes"]}}
        case "phase_started":
            begun = {"phase": event["phase"], "title": event["title"], "iteration": event["iteration"]}
            return {**begun, "phase_begun": event["time"], "done": 0, "total": 0, "kept": 0, "tokens_per_s": None}
        case "progress":
            return {"done": event["done"], "total": event["total"], "tokens_per_s": event["tokens_per_s"]}
        case "step":
            parts, at = _placed(view, event)
            progress = {"done": event["step"], "total": event["steps"], "tokens_per_s": event["tokens_per_s"]}
            return {**progress, "steps": view.steps.followed_by(event, at), "parts": parts}
        case "resumed":
            return {"done": event["done"], "total": event["total"], "kept": event["done"]}
        case "generated":
            return {"generated": {**view.generated, event["iteration"]: _measures(event, "generate/")}}
        case "evaluated":
            return {"evaluations": {**view.evaluations, event["policy"]: _measures(event, "eval/")}}
        case "phase_finished":
            durations = {**view.durations, event["phase"]: event["elapsed_s"]}
            return {"phase": None, "phases_done": view.phases_done + 1, "durations": durations}
        case "warning":
            return {"warnings": (*view.warnings, event["message"])}
        case "stopping":
            return {"stopping": event["after"]}
        case "restarted":
            message = f"{event['reason']}: restarted with training.micro_batch_size {event['micro_batch_size']}"
            return {"warnings": (*view.warnings, message)}
        case "chosen":
            return {"best": event["policy"]}
        case "run_finished":
            return {"finished": True, "phase": None}
        case "run_stopped":
            return {"phase": None}
        case "run_failed":
            return {"failed": event["message"], "hint": event.get("hint"), "phase": None}
        case _:
            return None


def _placed(view: RunView, event: Event) -> tuple[tuple[Part, ...], int]:
    """Find the part and index of a step. A run that was killed repeats the steps since its last checkpoint."""
    last = view.parts[-1] if view.parts else None
    if last is None or event["phase"] != last.phase:
        start = len(view.steps)
        return (*view.parts, Part(event["phase"], event["iteration"], start, event["step"])), start
    if event["step"] < last.first:
        last = replace(last, first=event["step"])
        return (*view.parts[:-1], last), last.start
    return view.parts, min(len(view.steps), last.start + event["step"] - last.first)


def _measures(event: Event, prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in event.items() if name.startswith(prefix)}
