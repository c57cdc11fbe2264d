"""Follow a run's event log, in this terminal, while the engine works in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..events import LAST, Event
from ..narrate import narrate
from ..runs.directory import Run
from ..runs.event_log import EventTail
from ..runs.lock import holder
from .live import LiveView
from .say import say

Show = Callable[[Event], None]

_PAUSE_S = 0.1


@contextmanager
def shown(run: Run, *, as_json: bool = False, plain: bool = False) -> Iterator[Show]:
    """How events are shown: as JSON on stdout, live on a terminal, else line by line."""
    if as_json:
        yield lambda event: print(json.dumps(event, ensure_ascii=False), flush=True)  # noqa: T201
    elif sys.stderr.isatty() and not plain:
        with LiveView(len(run.plan_row["phases"])) as view:
            yield view.show
    else:
        yield _line_by_line


def follow(run: Run, offset: int, alive: Callable[[], bool], show: Show) -> Event | None:
    """Show events until nobody works on the run any more.

    Args:
        offset: bytes of the log to leave out.

    Returns:
        The event that tells how the run ended, None if none does.
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


@contextmanager
def forwarding(paths: Callable[[], Iterable[Path]], tell: Callable[[str], None]) -> Iterator[list[int]]:
    """Within the block, Ctrl-C and SIGTERM are for the engines; this process stays to see what comes of it.

    Args:
        paths: of the runs that are under way.

    Yields:
        The first signal, once it has come.
    """

    def forward(number: int, frame: FrameType | None) -> None:
        for path in paths():
            if (engine := holder(path)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(engine["pid"], number)
        if not told:
            told.append(number)
            tell("stopping as soon as the step is finished; once more stops now")

    told: list[int] = []
    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line_by_line(event: Event) -> None:
    line = narrate(event)
    if line is not None:
        say(line)
