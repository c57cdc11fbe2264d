"""One run: its present in two lines, five panes, and what can be done about it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Click
from textual.widgets import ContentSwitcher

from tspin_mlx.base.errors import TspinError
from tspin_mlx.jobs.control import When, command, request_stop, resume
from tspin_mlx.runs.run import Run

from ..keys import bound
from ..panes.advantage import AdvantagePane
from ..panes.events import EventsPane
from ..panes.metrics import MetricsPane
from ..panes.pane import Pane
from ..panes.samples import SamplesPane
from ..panes.system import SystemPane
from ..state.source import LiveSource, ReplaySource, Source
from ..state.status import Now, headline, progress
from ..theme import words_of
from ..widgets.key_line import KeyLine
from ..widgets.status_line import Told
from .app_screen import AppScreen

_EVERY_S = 0.25
_SLOWEST_S = 1.0  # between two drawings of a long run, where one more step is less than a dot
_STEPS_PER_S = 30_000
_PANES: dict[str, type[Pane]] = {
    "advantage": AdvantagePane,
    "metrics": MetricsPane,
    "samples": SamplesPane,
    "system": SystemPane,
    "events": EventsPane,
}


class Tabs(Told):
    """The names of the panes with their keys; a click goes there."""

    def show(self, chosen: str, narrow: bool) -> None:
        """Mark the chosen one."""
        colours = words_of(self.app)
        self._spans: list[tuple[int, int, str]] = []
        line = Text()
        for number, name in enumerate(_PANES, start=1):
            here = name == chosen
            start = line.cell_len
            line.append(f"{number} ", f"bold {colours['accent']}" if here else colours["dim"])
            if here or not narrow:
                line.append(name.capitalize(), "bold" if here else "")
            self._spans.append((start, line.cell_len, name))
            line.append("   " if not narrow else "  ")
        self.tell(line)

    async def on_click(self, event: Click) -> None:
        """Go to the pane whose name was clicked."""
        for start, end, name in self._spans:
            if start <= event.get_content_offset_capture(self).x < end:
                await self.screen.run_action(f"pane('{name}')")


class RunScreen(AppScreen):
    """Follows a run; training is always another process.

    Args:
        run: running, finished, crashed, or copied from elsewhere.
    """

    HELP = (
        "One run as its event log tells it. Training is another process: leaving this screen, or closing the "
        "terminal, does not stop it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(bound(name, f"pane('{name}')", name, show=False, tooltip=f"Show {name}") for name in _PANES),
        bound("stop", "stop", "stop", tooltip="Stop now, after this step, or after this iteration"),
        bound("resume", "resume", "resume", tooltip="Go on exactly where it was"),
        bound("freeze", "freeze", "freeze", tooltip="Keep this moment on the screen, and go on again"),
        bound("replay", "replay", "replay", tooltip="Play the run again from its beginning; once more goes back"),
        bound("slower", "speed(0.5)", "slower", show=False, tooltip="Play at half the speed"),
        bound("faster", "speed(2)", "faster", show=False, tooltip="Play at twice the speed"),
        bound("export", "export", "export", tooltip="Fuse, convert or publish the result"),
        bound("chat", "chat", "chat", tooltip="Talk to the model before and after, side by side"),
        bound("fork", "fork", "fork", show=False, tooltip="A new run with other settings, out of what still holds"),
        bound("new", "app.new_run", "new run", show=False, tooltip="Choose a recipe, a model and data, and start"),
        bound("compare", "compare", "compare", show=False, tooltip="Lay this run over others"),
        bound("detach", "detach", "detach", tooltip="Back to the list; training goes on"),
        bound("back", "detach", "back", show=False),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.source: Source = LiveSource(run)
        self.frozen: Now | None = None
        self._stale, self._drawn, self._state = True, -math.inf, ""
        self._arrived = False  # at the end of the log, for the first time

    def compose(self) -> ComposeResult:
        """Two lines of the present, the panes, the keys."""
        yield Told(id="headline")
        yield Told(id="progress")
        yield Tabs(id="tabs")
        with ContentSwitcher(initial="advantage", id="body"):
            for name, pane in _PANES.items():
                yield pane(self.run, id=name)
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin to follow."""
        self.source = LiveSource(self.run, self.app.clock)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._recolour())
        self.set_interval(_EVERY_S, self.tick)
        self.tick()
        self.pane.focus()

    # --- following

    def tick(self) -> None:
        """Take in what has come; a long log comes in parts, each of them shown."""
        self._stale |= self.source.poll()
        pause = min(_SLOWEST_S, max(_EVERY_S, len(self.source.view.steps) / _STEPS_PER_S))
        arrived = self.source.caught_up and not self._arrived
        if self._stale and (arrived or time.monotonic() - self._drawn > 0.9 * pause):
            self.refresh_view()
        self._arrived |= arrived
        if isinstance(self.source, LiveSource) and not self.source.caught_up:
            self.call_after_refresh(self.tick)

    @property
    def now(self) -> Now:
        """The moment to show."""
        if self.frozen is not None:
            return self.frozen
        speed = self.source.speed if isinstance(self.source, ReplaySource) else 0.0
        return Now(self.source.view, self.source.state, self.run.plan_row, words_of(self.app), speed=speed)

    def refresh_view(self) -> None:
        """Bring the lines and the visible pane up to date."""
        self._stale, self._drawn = False, time.monotonic()
        now, width = self.now, max(10, self.size.width - 2)
        self.query_one("#headline", Told).tell(headline(now, width))
        self.query_one("#progress", Told).tell(progress(now, width))
        self.query_one(Tabs).show(self.pane_name, self.has_class("-narrow"))
        self.pane.show(now)
        if now.state != self._state:  # other keys make sense
            self._state = now.state
            self.refresh_bindings()

    def _recolour(self) -> None:
        if self.frozen is not None:
            self.frozen = replace(self.frozen, colours=words_of(self.app))
        for pane in self.query(Pane):
            pane.recolour()
        self.refresh_view()

    def on_resize(self) -> None:
        """The lines are made for a width."""
        self.call_after_refresh(self.refresh_view)

    def on_pane_redraw_requested(self) -> None:
        """Show the current status again."""
        self.refresh_view()

    # --- panes

    @property
    def pane_name(self) -> str:
        """Which pane is shown."""
        return str(self.query_one("#body", ContentSwitcher).current)

    @property
    def pane(self) -> Pane:
        """The pane that is shown."""
        return cast(Pane, self.query_one(f"#{self.pane_name}"))

    def action_pane(self, name: str) -> None:
        """Show another pane."""
        self.query_one("#body", ContentSwitcher).current = name
        self.call_after_refresh(self.refresh_view)
        self.pane.take_focus()

    # --- what can be done

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that can do nothing now are not shown."""
        working = self.source.state in ("running", "stalled")
        if action == "stop":
            return working
        if action == "resume":
            return self.source.state in ("interrupted", "failed")
        if action == "speed":
            return isinstance(self.source, ReplaySource)
        if action == "replay":
            return not working
        return True

    def action_freeze(self) -> None:
        """Keep this moment, or go on."""
        self.frozen = None if self.frozen is not None else replace(self.now, frozen=True)
        self.refresh_view()

    def action_replay(self) -> None:
        """Play it again, or go back to its end."""
        self.frozen = None
        live = LiveSource(self.run, self.app.clock)
        self.source = live if isinstance(self.source, ReplaySource) else ReplaySource(self.run, self.app.clock)
        self.refresh_view()

    def action_speed(self, factor: float) -> None:
        """Play faster or slower."""
        if isinstance(self.source, ReplaySource):
            self.source.faster(factor)
            self.refresh_view()

    def action_stop(self) -> None:
        """Ask when, then ask the engine."""
        from .stop_dialog import StopDialog

        self.app.push_screen(StopDialog(), self._stop)

    def _stop(self, when: When | None) -> None:
        if when is None:
            return
        try:
            request_stop(self.run, when)
        except TspinError as error:
            self.app.show_error(error)
            return
        words = {"now": "now", "step": "after this step", "iteration": "after this iteration"}[when]
        self.app.show_message(f"asked to stop {words}; r resumes, or: {command('resume', self.run)}")

    def action_resume(self) -> None:
        """Go on where it was."""
        try:
            resume(self.run)
        except TspinError as error:
            self.app.show_error(error)
            return
        self.frozen = None
        self.source = LiveSource(self.run, self.app.clock)
        self.refresh_view()

    def action_fork(self) -> None:
        """A new run out of this one."""
        from .new_run import NewRunScreen

        self.app.push_screen(NewRunScreen(self.run))

    def action_compare(self) -> None:
        """Lay the latest other runs over this one."""
        from ..state.listing import listed
        from .compare import MOST, CompareScreen

        others = [run.path for run in listed(self.app.folder) if run.path.name != self.run.name and run.current]
        if not others:
            self.app.show_message(f"no other run in {self.app.folder} has curves yet", warning=True)
            return
        self.app.push_screen(CompareScreen([self.run.path, *others][:MOST]))

    def action_export(self) -> None:
        """Fuse, convert, publish."""
        from .export import ExportScreen

        self.app.push_screen(ExportScreen(self.run))

    def action_chat(self) -> None:
        """Before and after, side by side."""
        from .chat import ChatScreen

        self.app.push_screen(ChatScreen(self.run))

    def action_detach(self) -> None:
        """Leave; say that training goes on, and how to come back."""
        working = self.source.state in ("running", "stalled")
        self.dismiss()
        if working:
            self.app.show_message(f"{self.run.name} goes on in the background\n{command('watch', self.run)}")
