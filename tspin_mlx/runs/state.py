"""The state of a run (running, stalled, interrupted, failed, finished), derived from its lock and files."""

from __future__ import annotations

from typing import Literal

from .event_log import last_events
from .lock import is_held
from .run import Run

State = Literal["running", "stalled", "interrupted", "failed", "finished"]

_PATIENCE_S = 90.0
_PATIENCE_STEPS = 6


def state_of(run: Run, now: float) -> State:
    """Determine the state of a run.

    Args:
        now: seconds since 1970.

    Returns:
        ``stalled`` if a process holds its lock but has been silent for longer than 90 s and six of its recent steps;
        ``interrupted`` if none does, although it neither finished nor failed.
    """
    if is_held(run.path):
        return "stalled" if _is_silent(run, now) else "running"
    if run.is_finished:
        return "finished"
    events = last_events(run.events_path)
    return "failed" if events and events[-1]["kind"] == "run_failed" else "interrupted"


def _is_silent(run: Run, now: float) -> bool:
    sign_of_life = max(path.stat().st_mtime for path in (run.events_path, run.path / "lock") if path.exists())
    steps = [event["elapsed_s"] for event in last_events(run.events_path) if event["kind"] == "step"]
    patience = max(_PATIENCE_S, _PATIENCE_STEPS * max(steps, default=0.0))
    return now - sign_of_life > patience
