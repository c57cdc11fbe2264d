"""The runs of a folder, as the first screen shows them. No widget in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tspin_mlx.chart import sparkline
from tspin_mlx.runs.directory import run_paths
from tspin_mlx.runs.event_log import last_events
from tspin_mlx.runs.summary import summary

_TAIL = 1 << 17  # bytes of a log: enough for a sparkline, and quick to read however long it is


@dataclass(frozen=True)
class Listed:
    """A run in the list.

    Attributes:
        path: of the run.
        about: see :func:`tspin_mlx.runs.summary.summary`.
        iteration: the last one that the log tells of, None before self-play.
        current: a sparkline of the last current advantages.
        last: the last value in it.
        touched: seconds since 1970 of the last event.
    """

    path: Path
    about: dict[str, Any]
    iteration: int | None
    current: str
    last: float | None
    touched: float


def listed(folder: Path) -> list[Listed]:
    """All runs of a folder, those that were touched last first."""
    return sorted(map(_listed, run_paths(folder)), key=lambda run: run.touched, reverse=True)


def _listed(path: Path) -> Listed:
    log = path / "events.jsonl"
    events = last_events(log, _TAIL)
    values = [event["advantage/current"] for event in events if "advantage/current" in event]
    iterations = [event["iteration"] for event in events if event.get("iteration") is not None]
    made = (path / "run.json").stat().st_mtime
    return Listed(
        path,
        summary(path),
        iterations[-1] if iterations else None,
        sparkline(np.array(values), 16),
        values[-1] if values else None,
        events[-1]["time"] if events else made,
    )


def ago(seconds: float) -> str:
    """How long ago something was, in one number."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
