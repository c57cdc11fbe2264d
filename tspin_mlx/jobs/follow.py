"""Follow the event log of a run whose engine is another process."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..runs.event_log import EventTail
from ..runs.run import Run
from ..view.events import LAST, Event

_PAUSE_S = 0.1


def follow(run: Run, offset: int, alive: Callable[[], bool], show: Callable[[Event], None]) -> Event | None:
    """Pass on events until the run's process has ended.

    Args:
        offset: bytes of the log to skip.
        alive: returns whether the engine's process, or its supervisor, still runs.
        show: called with each event.

    Returns:
        The event that ended the run, None if there is none.
    """
    tail = EventTail(run.events_path, offset)
    last = None
    while True:
        was_alive = alive()
        for event in tail.read():
            show(event)
            last = event if event["kind"] in LAST else None
        if not was_alive:
            return last
        time.sleep(_PAUSE_S)
