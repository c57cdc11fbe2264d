"""The run's event log: one JSON object per line, only ever appended to, and read while it grows."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..base import storage
from ..view.events import FIELDS, Event, parse_event, parse_events
from ..view.run_view import RunView, reduce_all

_BLOCK = 1 << 20  # bytes that are taken apart at once; more is slower, because memory is new each time


class EventLog:
    """Appends events to a file and hands each to a listener.

    Args:
        path: ``events.jsonl``; created when missing. A line that a crash has left half-written is cut off.
        listener: called with each event after it was written.
    """

    def __init__(self, path: Path, listener: Callable[[Event], None] | None = None) -> None:
        storage.cut_torn_tail(path)
        self._path = path
        self._listener = listener

    def emit(self, kind: str, **fields: Any) -> None:
        """Write one event.

        Raises:
            StorageError: it could not be written.
        """
        assert kind in FIELDS
        event: Event = {"time": round(time.time(), 3), "kind": kind, **fields}
        storage.append_line(self._path, event, sync=False)
        if self._listener is not None:
            self._listener(event)


class EventTail:
    """Reads a log from where it was left the last time.

    Args:
        path: ``events.jsonl``; it need not exist yet.
        offset: bytes to leave out.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset

    def read(self, most: int = -1) -> list[Event]:
        """The events that have come since; a line that is not complete waits for the next time.

        Args:
            most: bytes to look at, so that a long log can be shown while it is read; -1 for all.
        """
        found: list[Event] = []
        left = math.inf if most < 0 else most
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            # readline, so that the longest line is no obstacle
            while left > 0 and (content := file.read(int(min(_BLOCK, left))) + file.readline()):
                left -= len(content)
                complete = content[: content.rfind(b"\n") + 1]
                self._offset += len(complete)
                found += parse_events(complete)
                if complete != content:
                    break
        return found


def read_events(path: Path) -> Iterator[Event]:
    """All complete events of a log; what cannot be read is left out."""
    yield from EventTail(path).read()


def view_of(path: Path) -> RunView:
    """What there is to see of a run, from all of its log."""
    return reduce_all(RunView(), read_events(path))


def last_events(path: Path, size: int = 1 << 16) -> list[Event]:
    """The events in the last ``size`` bytes of a log."""
    try:
        offset = max(0, path.stat().st_size - size)
    except FileNotFoundError:
        return []
    # A line that is cut at its beginning is no event.
    return EventTail(path, offset).read()


def offset_of_last_start(path: Path) -> int:
    """Where in a log the present, or last, start of the run begins; in bytes."""
    if not path.exists():
        return 0
    position = start = 0
    with path.open("rb") as file:
        for line in file:
            if b'"run_started"' in line and (event := parse_event(line)) and event["kind"] == "run_started":
                start = position
            position += len(line)
    return start


def log_size(path: Path) -> int:
    """Bytes of a log, 0 if it is not there."""
    return path.stat().st_size if path.exists() else 0
