"""The event log: append-only JSON lines, which can be followed while it grows."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..base import filesystem
from ..view.events import FIELDS, Event, parse_event, parse_events
from ..view.run_view import RunView, reduce_all

_BLOCK = 1 << 20  # bytes parsed at once; larger blocks are slower, since their memory is new each time


class EventLog:
    """Appends events to a file and passes each to a listener.

    Args:
        path: ``events.jsonl``; created if missing. A line that a crash left incomplete is cut off.
        listener: called with each event after it is written.
    """

    def __init__(self, path: Path, listener: Callable[[Event], None] | None = None) -> None:
        filesystem.cut_torn_tail(path)
        self._path = path
        self._listener = listener

    def emit(self, kind: str, **fields: Any) -> None:
        """Write one event.

        Raises:
            StorageError: it could not be written.
        """
        assert kind in FIELDS
        event: Event = {"time": round(time.time(), 3), "kind": kind, **fields}
        filesystem.append_line(self._path, event, sync=False)
        if self._listener is not None:
            self._listener(event)


class EventTail:
    """Reads the new lines of a log at each call.

    Args:
        path: ``events.jsonl``; it need not exist yet.
        offset: bytes to skip.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset

    def read(self, most: int = -1) -> list[Event]:
        """Read the events since the last call; an incomplete line is left for the next call.

        Args:
            most: bytes to read, so that a long log can be shown while it is read; -1 for all.
        """
        events: list[Event] = []
        left = math.inf if most < 0 else most
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            # readline, so that a block always contains at least one whole line
            while left > 0 and (content := file.read(int(min(_BLOCK, left))) + file.readline()):
                left -= len(content)
                complete = content[: content.rfind(b"\n") + 1]
                self._offset += len(complete)
                events += parse_events(complete)
                if complete != content:
                    break
        return events


def read_events(path: Path) -> Iterator[Event]:
    """Read all complete events of a log; unreadable lines are skipped."""
    yield from EventTail(path).read()


def view_of(path: Path) -> RunView:
    """Build the view of a run from its whole log."""
    return reduce_all(RunView(), read_events(path))


def last_events(path: Path, size: int = 1 << 16) -> list[Event]:
    """Read the events in the last ``size`` bytes of a log."""
    try:
        offset = max(0, path.stat().st_size - size)
    except FileNotFoundError:
        return []
    # A first line without its beginning is not an event.
    return EventTail(path, offset).read()


def offset_of_last_start(path: Path) -> int:
    """Find where the last start of the run begins in its log, in bytes."""
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
    """Return the size of a log in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0
