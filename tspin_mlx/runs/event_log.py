"""The run's event log: one JSON object per line, only ever appended to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ..events import Event, EventKind


class EventLog:
    """Appends events to a file and hands each to a listener.

    Args:
        path: ``events.jsonl``; created when missing.
        listener: called with each event after it was written.
    """

    def __init__(self, path: Path, listener: Callable[[Event], None] | None = None) -> None:
        _cut_torn_tail(path)
        self._file = path.open("a", encoding="utf-8")
        self._listener = listener

    def emit(self, kind: EventKind, **fields: Any) -> None:
        """Write one event."""
        event: Event = {"time": round(time.time(), 3), "kind": kind, **fields}
        self._file.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._file.flush()
        if self._listener is not None:
            self._listener(event)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """All complete events of a log; a last line that was cut off is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def _cut_torn_tail(path: Path) -> None:
    """Remove a last line that a crash left without its end."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
