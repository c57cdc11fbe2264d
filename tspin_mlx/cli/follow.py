"""Follow a run's event log, in this terminal, while the engine works in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType

from ..base.text import first_line
from ..jobs.trackers import Reporter, check_trackers, open_tracker
from ..runs.event_log import EventTail
from ..runs.lock import holder
from ..runs.run import Run
from ..view.event_text import event_text
from ..view.events import LAST, Event
from .console import say
from .live import LiveView

Show = Callable[[Event], None]

_PAUSE_S = 0.1


@contextmanager
def showing(run: Run, *, as_json: bool = False, plain: bool = False, report_to: Sequence[str] = ()) -> Iterator[Show]:
    """How events are shown: as JSON on stdout, live on a terminal, else line by line; and handed on to trackers.

    Raises:
        UsageError: no such tracker.
        SetupError: its package is missing.
    """
    with _reporting(run, report_to) as report:
        if as_json:
            show: Show = _as_json
        elif plain or not sys.stderr.isatty():
            show = _line_by_line
        else:
            with LiveView(len(run.outline.phases)) as view:
                yield _both(view.show, report)
            return
        yield _both(show, report)


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
def _reporting(run: Run, names: Sequence[str]) -> Iterator[Show]:
    """Hand events on to trackers, after those that there are. A tracker that fails is left out; the run goes on."""
    check_trackers(names)
    earlier = EventTail(run.events_path).read() if names else []
    reports: dict[str, Reporter] = {}

    def attempt(name: str, what: Callable[[], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):
                what()
        except Exception as error:  # noqa: BLE001  whatever a tracker raises, the run is not its business
            reports.pop(name)
            say(f"warning: {name} is told no more: {first_line(error)}")

    def report(*events: Event) -> None:
        told_first, earlier[:] = [*earlier], []  # with the first one that comes, when the engine has been started
        for event in (*told_first, *events):
            for name, told in list(reports.items()):
                attempt(name, partial(told.tell, event))

    try:
        for name in dict.fromkeys(names):
            with redirect_stdout(sys.stderr):
                reports[name] = Reporter(open_tracker(name, run))
        yield report
        report()
    finally:
        for name, told in list(reports.items()):
            attempt(name, told.finish)


def _both(show: Show, report: Show) -> Show:
    def show_and_report(event: Event) -> None:
        show(event)
        report(event)

    return show_and_report


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


def _as_json(event: Event) -> None:
    print(json.dumps(event, ensure_ascii=False), flush=True)  # noqa: T201


def _line_by_line(event: Event) -> None:
    line = event_text(event)
    if line is not None:
        say(line)
