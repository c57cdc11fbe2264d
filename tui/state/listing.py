"""Run list: one entry for each run of a folder, as the home screen shows them. No widgets."""

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

_TAIL_BYTES = 1 << 17  # enough of a log for a sparkline, and quick to read however long the log is
_SPARKLINE_WIDTH = 16


@dataclass(frozen=True)
class RunEntry:
    """A run in the list.

    Attributes:
        path: its folder.
        summary: see :func:`tspin_mlx.runs.summary.summary`.
        iteration: the last one in the log; None before self-play.
        sparkline: of the last current advantages.
        advantage: the last value of the sparkline.
        updated: time of the last event, in seconds since 1970.
        stamp: modification times of its files; a change means that the run has to be read again.
    """

    path: Path
    summary: dict[str, Any]
    iteration: int | None
    sparkline: str
    advantage: float | None
    updated: float
    stamp: tuple[int, ...] = ()


def list_runs(folder: Path, previous: Iterable[RunEntry] = ()) -> list[RunEntry]:
    """Return all runs of a folder, those updated last first.

    Args:
        previous: the entries of the last call; runs that have not changed since are not read again.
    """
    known = {run.path: run for run in previous if run.summary["state"] not in ("running", "stalled")}
    entries = []
    for path in run_paths(folder):
        with contextlib.suppress(FileNotFoundError, UsageError):  # removed while the folder is read
            unchanged = path in known and known[path].stamp == _stamp(path) and not is_held(path)
            entries.append(known[path] if unchanged else _entry(path))
    return sorted(entries, key=lambda run: run.updated, reverse=True)


def _stamp(path: Path) -> tuple[int, ...]:
    files = (path, path / "events.jsonl", path / "run.json")
    return tuple(file.stat().st_mtime_ns for file in files if file.exists())


def _entry(path: Path) -> RunEntry:
    log, stamp = path / "events.jsonl", _stamp(path)
    events = last_events(log, _TAIL_BYTES)
    values = [event["advantage/current"] for event in events if "advantage/current" in event]
    iterations = [event["iteration"] for event in events if event.get("iteration") is not None]
    created = (path / "run.json").stat().st_mtime
    return RunEntry(
        path,
        summary(path),
        iterations[-1] if iterations else None,
        sparkline(values, _SPARKLINE_WIDTH),
        values[-1] if values else None,
        events[-1]["time"] if events else created,
        stamp,
    )


def time_ago(seconds: float) -> str:
    """Format a time in the past, such as ``3 h ago``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
