"""The runs of a folder, as the first screen shows them. No widget in here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin_mlx.base.errors import UsageError
from tspin_mlx.base.text import sparkline
from tspin_mlx.runs.event_log import last_events
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.run import run_paths
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
        stamp: by which a change of its files is noticed.
    """

    path: Path
    about: dict[str, Any]
    iteration: int | None
    current: str
    last: float | None
    touched: float
    stamp: tuple[int, ...] = ()


def listed(folder: Path, before: Iterable[Listed] = ()) -> list[Listed]:
    """All runs of a folder, those that were touched last first.

    Args:
        before: what was found the last time; what has not changed since is not read again.
    """
    known = {run.path: run for run in before if run.about["state"] not in ("running", "stalled")}
    found = []
    for path in run_paths(folder):
        with contextlib.suppress(FileNotFoundError, UsageError):  # removed while we look
            same = path in known and known[path].stamp == _stamp(path) and not is_held(path)
            found.append(known[path] if same else _listed(path))
    return sorted(found, key=lambda run: run.touched, reverse=True)


def _stamp(path: Path) -> tuple[int, ...]:
    files = (path, path / "events.jsonl", path / "run.json")
    return tuple(file.stat().st_mtime_ns for file in files if file.exists())


def _listed(path: Path) -> Listed:
    log, stamp = path / "events.jsonl", _stamp(path)
    events = last_events(log, _TAIL)
    values = [event["advantage/current"] for event in events if "advantage/current" in event]
    iterations = [event["iteration"] for event in events if event.get("iteration") is not None]
    made = (path / "run.json").stat().st_mtime
    return Listed(
        path,
        summary(path),
        iterations[-1] if iterations else None,
        sparkline(values, 16),
        values[-1] if values else None,
        events[-1]["time"] if events else made,
        stamp,
    )


def ago(seconds: float) -> str:
    """How long ago something was, in one number."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
