"""5 Events: what happened, in words and in its order."""

from __future__ import annotations

import time
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

from ..keys import bound
from ..state.status import Now
from ..theme import words_of
from .pane import Pane

_MOST = 1000  # lines

_MORE = {
    "run_started": lambda event: f"started: {event['phases_done']} of {event['phases']} phases were done",
    "machine": lambda event: f"on {event['device']}, {event['memory_bytes'] / 1e9:.0f} GB",
    "run_finished": lambda event: "finished",
    "run_stopped": lambda event: f"stopped: {event['message']}",
    "run_failed": lambda event: f"failed: {event['message']}" + (f"\n→ {event['hint']}" if event.get("hint") else ""),
}


class EventsPane(Pane):
    """A log; steps are left out unless asked for."""

    HELP = "What the engine has said, from events.jsonl."
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("data", "steps", "steps", tooltip="Show optimiser steps, too"),
    ]

    def __init__(self, run: Run, *, id: str) -> None:
        super().__init__(run, id=id)
        self._with_steps = False
        self._shown: list[Event] = []
        self._width = 0

    def compose(self) -> ComposeResult:
        """The log."""
        yield RichLog(id="log", wrap=True, markup=False, highlight=False, max_lines=_MOST)

    def take_focus(self) -> None:
        """The keys that scroll belong to the log."""
        self.query_one(RichLog).focus()

    def show(self, now: Now) -> None:
        """Add what is new, or begin anew after a look at another moment."""
        events, log = self._chosen(now.view), self.query_one(RichLog)
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
        log.max_lines = _MOST if follow else None  # whoever reads further up keeps the place
        for event in events[len(kept) :]:
            line = describe(event)
            if line is not None:
                log.write(_line(event, line, words_of(self.app)), width=width, scroll_end=follow)
        self._shown = events

    def recolour(self) -> None:
        """Write all lines anew."""
        self._shown = []

    def on_resize(self) -> None:
        """Wrap anew."""
        self.call_after_refresh(self.post_message, self.RedrawRequested())

    def _chosen(self, view: RunView) -> list[Event]:
        if not self._with_steps:
            return list(view.news[-_MOST:])
        both = [*view.news[-_MOST:], *view.steps[max(0, len(view.steps) - _MOST) :]]
        return sorted(both, key=lambda event: event["time"])[-_MOST:]

    def action_steps(self) -> None:
        """With or without steps."""
        self._with_steps = not self._with_steps
        self._shown = []
        self.post_message(self.RedrawRequested())


def describe(event: Event) -> str | None:
    """An event in words, also those that a pipe is not told of."""
    told = _MORE[event["kind"]](event) if event["kind"] in _MORE else event_text(event)
    return None if told is None else printable(told, keep_newlines=True)


def _line(event: Event, told: str, colours: dict[str, str]) -> Table:
    """The time, and beside it the words, which are wrapped where they begin."""
    kind = event["kind"]
    colour = {"warning": "warning", "restarted": "warning", "run_failed": "error", "run_finished": "success"}.get(kind)
    at = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(no_wrap=True)
    line.add_column()
    line.add_row(Text(at, style=colours["dim"]), Text(told, style=colours[colour] if colour else ""))
    return line
