"""Events pane: the event log as lines of text, oldest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import RichLog

from tspin_mlx.base.text import printable
from tspin_mlx.runs.run import Run
from tspin_mlx.view.event_text import event_text
from tspin_mlx.view.events import Event
from tspin_mlx.view.run_view import RunView

from ..keys import binding
from ..state.status import RunStatus
from ..theme import theme_colours
from .pane import Pane

_MAX_LINES = 1000

#: Formats for the kinds of events that `event_text` leaves out.
_FORMATS: dict[str, Callable[[Event], str]] = {
    "run_started": lambda event: f"started with {event['phases_done']} of {event['phases']} phases done",
    "machine": lambda event: f"on {event['device']}, {event['memory_bytes'] / 1e9:.0f} GB",
    "run_finished": lambda event: "finished",
    "run_stopped": lambda event: f"stopped: {event['message']}",
    "run_failed": lambda event: f"failed: {event['message']}" + (f"\n→ {event['hint']}" if event.get("hint") else ""),
}


class EventsPane(Pane):
    """A scrolling log; optimiser steps are hidden unless asked for."""

    HELP = "The event log of the engine, from events.jsonl."
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("data", "steps", "steps", tooltip="Show or hide optimiser steps"),
    ]

    def __init__(self, run: Run, *, id: str) -> None:
        super().__init__(run, id=id)
        self._with_steps = False
        self._shown: list[Event] = []
        self._width = 0

    def compose(self) -> ComposeResult:
        """Yield the log."""
        yield RichLog(id="log", wrap=True, markup=False, highlight=False, max_lines=_MAX_LINES)

    def take_focus(self) -> None:
        """Focus the log, so that the cursor keys scroll it."""
        self.query_one(RichLog).focus()

    def show(self, status: RunStatus) -> None:
        """Append new events; write all of them again if the status is not a continuation of the last one."""
        events, log = self._selected(status.view), self.query_one(RichLog)
        width = log.scrollable_content_region.width
        if width != self._width:  # lines are wrapped when they are written
            self._width, self._shown = width, []
        if not width:
            return
        kept = self._shown[self._shown.index(events[0]) :] if events and events[0] in self._shown else []
        if not kept or kept != events[: len(kept)]:
            log.clear()
            kept = []
        follow = not kept or log.is_vertical_scroll_end
        log.max_lines = _MAX_LINES if follow else None  # dropping old lines would move the text of somebody reading
        for event in events[len(kept) :]:
            text = describe(event)
            if text is not None:
                log.write(_line(event, text, theme_colours(self.app)), width=width, scroll_end=follow)
        self._shown = events

    def recolour(self) -> None:
        """Write all lines again on the next update."""
        self._shown = []

    def on_resize(self) -> None:
        """Wrap the lines to the new width."""
        self.call_after_refresh(self.post_message, self.RedrawRequested())

    def _selected(self, view: RunView) -> list[Event]:
        if not self._with_steps:
            return list(view.news[-_MAX_LINES:])
        events = [*view.news[-_MAX_LINES:], *view.steps[max(0, len(view.steps) - _MAX_LINES) :]]
        return sorted(events, key=lambda event: event["time"])[-_MAX_LINES:]

    def action_steps(self) -> None:
        """Show or hide optimiser steps."""
        self._with_steps = not self._with_steps
        self._shown = []
        self.post_message(self.RedrawRequested())


def describe(event: Event) -> str | None:
    """Return the text for an event; None if it has none."""
    kind = event["kind"]
    text = _FORMATS[kind](event) if kind in _FORMATS else event_text(event)
    return None if text is None else printable(text, keep_newlines=True)


def _line(event: Event, text: str, colours: dict[str, str]) -> Table:
    """Return a row with the time and the text; wrapped text stays in its column."""
    kind = event["kind"]
    colour = {"warning": "warning", "restarted": "warning", "run_failed": "error", "run_finished": "success"}.get(kind)
    clock_time = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True)
    row.add_column()
    row.add_row(Text(clock_time, style=colours["dim"]), Text(text, style=colours[colour] if colour else ""))
    return row
