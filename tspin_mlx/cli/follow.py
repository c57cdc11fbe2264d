"""Follow a run's event log in this terminal, while the engine works in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
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
from ..view.events import Event
from .console import say
from .live import LiveView

Show = Callable[[Event], None]


@contextmanager
def showing(run: Run, *, as_json: bool = False, plain: bool = False, report_to: Sequence[str] = ()) -> Iterator[Show]:
    """Show events as JSON on stdout, live on a terminal, or line by line; and send them to trackers.

    Raises:
        UsageError: a tracker is unknown.
        SetupError: its package is missing.
    """
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(_reporting(run, report_to))
        lines = plain or not sys.stderr.isatty()
        live = None if as_json or lines else stack.enter_context(LiveView(len(run.outline.phases)))

        def show(event: Event) -> None:
            if as_json:
                print(json.dumps(event, ensure_ascii=False), flush=True)  # noqa: T201
            elif live is not None:
                live.show(event)
            elif (line := event_text(event)) is not None:
                say(line)
            report(event)

        yield show


@contextmanager
def _reporting(run: Run, names: Sequence[str]) -> Iterator[Show]:
    """Send events to trackers, earlier ones first. A tracker that fails is dropped; the run continues."""
    check_trackers(names)
    earlier = EventTail(run.events_path).read() if names else []
    reporters: dict[str, Reporter] = {}

    def attempt(name: str, action: Callable[[], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):
                action()
        except Exception as error:  # noqa: BLE001  whatever a tracker raises must not end the run
            reporters.pop(name)
            say(f"warning: {name} gets no more metrics: {first_line(error)}")

    def report(*events: Event) -> None:
        backlog, earlier[:] = [*earlier], []  # sent with the first new event, once the engine has been started
        for event in (*backlog, *events):
            for name, reporter in list(reporters.items()):
                attempt(name, partial(reporter.tell, event))

    try:
        for name in dict.fromkeys(names):
            with redirect_stdout(sys.stderr):
                reporters[name] = Reporter(open_tracker(name, run))
        yield report
        report()
    finally:
        for name, reporter in list(reporters.items()):
            attempt(name, reporter.finish)


@contextmanager
def forwarding(paths: Callable[[], Iterable[Path]], print_message: Callable[[str], None]) -> Iterator[list[int]]:
    """Within the block, Ctrl-C and SIGTERM go to the engines; this process stays until they have ended.

    Args:
        paths: of the runs under way.

    Yields:
        The first signal, once it has come.
    """

    def forward(number: int, frame: FrameType | None) -> None:
        for path in paths():
            if (engine := holder(path)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(engine["pid"], number)
        if not received:
            received.append(number)
            print_message("stopping after this step; Ctrl-C again stops now")

    received: list[int] = []
    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
