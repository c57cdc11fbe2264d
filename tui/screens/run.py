"""Run screen: two status lines, tabs with five panes, and the actions on a run."""

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

from ..keys import binding
from ..panes.advantage import AdvantagePane
from ..panes.events import EventsPane
from ..panes.metrics import MetricsPane
from ..panes.pane import Pane
from ..panes.samples import SamplesPane
from ..panes.system import SystemPane
from ..state.source import LiveSource, ReplaySource, Source
from ..state.status import RunStatus, headline, progress_line
from ..theme import theme_colours
from ..widgets.key_line import KeyLine
from ..widgets.status_line import StatusLine
from .app_screen import AppScreen

_POLL_S = 0.25
_MAX_REDRAW_S = 1.0  # a long run is redrawn less often, since one more step is less than a dot in its chart
_STEPS_PER_REDRAW_S = 30_000
_PANES: dict[str, type[Pane]] = {
    "advantage": AdvantagePane,
    "metrics": MetricsPane,
    "samples": SamplesPane,
    "system": SystemPane,
    "events": EventsPane,
}


class Tabs(StatusLine):
    """The names of the panes with their keys; a click on one shows the pane."""

    def select(self, selected: str, narrow: bool) -> None:
        """Highlight the selected pane; on a narrow screen the others show only their keys."""
        colours = theme_colours(self.app)
        self._spans: list[tuple[int, int, str]] = []
        line = Text()
        for number, name in enumerate(_PANES, start=1):
            is_selected = name == selected
            start = line.cell_len
            line.append(f"{number} ", f"bold {colours['accent']}" if is_selected else colours["dim"])
            if is_selected or not narrow:
                line.append(name.capitalize(), "bold" if is_selected else "")
            self._spans.append((start, line.cell_len, name))
            line.append("   " if not narrow else "  ")
        self.show(line)

    async def on_click(self, event: Click) -> None:
        """Show the pane whose name was clicked."""
        for start, end, name in self._spans:
            if start <= event.get_content_offset_capture(self).x < end:
                await self.screen.run_action(f"pane('{name}')")


class RunScreen(AppScreen):
    """Follows a run, which trains in another process.

    Args:
        run: running, finished, crashed, or copied from another machine.
    """

    HELP = (
        "One run, read from its event log. Training is a separate process: leaving this screen or closing the "
        "terminal does not stop it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(binding(name, f"pane('{name}')", name, show=False, tooltip=f"Show {name}") for name in _PANES),
        binding("stop", "stop", "stop", tooltip="Stop now, after this step, or after this iteration"),
        binding("resume", "resume", "resume", tooltip="Continue exactly where it stopped"),
        binding("freeze", "freeze", "freeze", tooltip="Freeze the screen, or follow the run again"),
        binding("replay", "replay", "replay", tooltip="Replay the run from the start, or end the replay"),
        binding("slower", "speed(0.5)", "slower", show=False, tooltip="Replay at half the speed"),
        binding("faster", "speed(2)", "faster", show=False, tooltip="Replay at twice the speed"),
        binding("export", "export", "export", tooltip="Fuse, convert or publish the result"),
        binding("chat", "chat", "chat", tooltip="Chat with the model before and after training"),
        binding(
            "fork", "fork", "fork", show=False, tooltip="Start a run with other settings that reuses finished work"
        ),
        binding("new", "app.new_run", "new run", show=False, tooltip="Choose a recipe, a model and data, and start"),
        binding("compare", "compare", "compare", show=False, tooltip="Compare this run with others"),
        binding("detach", "detach", "detach", tooltip="Back to the list; training continues"),
        binding("back", "detach", "back", show=False),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.source: Source = LiveSource(run)
        self.frozen: RunStatus | None = None
        self._stale, self._drawn_at, self._state = True, -math.inf, ""
        self._has_caught_up = False  # with the end of the log, at least once

    def compose(self) -> ComposeResult:
        """Yield the status lines, the tabs, the panes and the footer."""
        yield StatusLine(id="headline")
        yield StatusLine(id="progress")
        yield Tabs(id="tabs")
        with ContentSwitcher(initial="advantage", id="body"):
            for name, pane in _PANES.items():
                yield pane(self.run, id=name)
        yield KeyLine()

    def on_mount(self) -> None:
        """Follow the run: poll its log at intervals."""
        self.source = LiveSource(self.run, self.app.clock)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._recolour())
        self.set_interval(_POLL_S, self._poll)
        self._poll()
        self.pane.focus()

    # --- polling

    def _poll(self) -> None:
        """Read new events, and redraw if it is time to; a long log is read and shown in several parts."""
        self._stale |= self.source.poll()
        pause = min(_MAX_REDRAW_S, max(_POLL_S, len(self.source.view.steps) / _STEPS_PER_REDRAW_S))
        first_time = self.source.caught_up and not self._has_caught_up
        if self._stale and (first_time or time.monotonic() - self._drawn_at > 0.9 * pause):
            self.refresh_status()
        self._has_caught_up |= first_time
        if isinstance(self.source, LiveSource) and not self.source.caught_up:
            self.call_after_refresh(self._poll)

    @property
    def status(self) -> RunStatus:
        """The run status to show: the current one, or the frozen one."""
        if self.frozen is not None:
            return self.frozen
        speed = self.source.speed if isinstance(self.source, ReplaySource) else 0.0
        return RunStatus(self.source.view, self.source.state, self.run.outline, theme_colours(self.app), speed=speed)

    def refresh_status(self) -> None:
        """Update the status lines, the tabs and the visible pane."""
        self._stale, self._drawn_at = False, time.monotonic()
        status, width = self.status, max(10, self.size.width - 2)
        self.query_one("#headline", StatusLine).show(headline(status, width))
        self.query_one("#progress", StatusLine).show(progress_line(status, width))
        self.query_one(Tabs).select(self.pane_name, self.has_class("-narrow"))
        self.pane.show(status)
        if status.state != self._state:  # which actions are enabled depends on the state
            self._state = status.state
            self.refresh_bindings()

    def _recolour(self) -> None:
        if self.frozen is not None:
            self.frozen = replace(self.frozen, colours=theme_colours(self.app))
        for pane in self.query(Pane):
            pane.recolour()
        self.refresh_status()

    def on_resize(self) -> None:
        """Fit the status lines to the new width."""
        self.call_after_refresh(self.refresh_status)

    def on_pane_redraw_requested(self) -> None:
        """Update the pane that asked for it."""
        self.refresh_status()

    # --- panes

    @property
    def pane_name(self) -> str:
        """The id of the visible pane."""
        return str(self.query_one("#body", ContentSwitcher).current)

    @property
    def pane(self) -> Pane:
        """The visible pane."""
        return cast(Pane, self.query_one(f"#{self.pane_name}"))

    def action_pane(self, name: str) -> None:
        """Show another pane."""
        self.query_one("#body", ContentSwitcher).current = name
        self.call_after_refresh(self.refresh_status)
        self.pane.take_focus()

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the actions that make no sense in the current state."""
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
        """Freeze the screen, or follow the run again."""
        self.frozen = None if self.frozen is not None else replace(self.status, frozen=True)
        self.refresh_status()

    def action_replay(self) -> None:
        """Start a replay, or end it."""
        self.frozen = None
        live = LiveSource(self.run, self.app.clock)
        self.source = live if isinstance(self.source, ReplaySource) else ReplaySource(self.run, self.app.clock)
        self.refresh_status()

    def action_speed(self, factor: float) -> None:
        """Change the speed of the replay."""
        if isinstance(self.source, ReplaySource):
            self.source.change_speed(factor)
            self.refresh_status()

    def action_stop(self) -> None:
        """Ask when to stop, then ask the engine to."""
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
        moment = {"now": "now", "step": "after this step", "iteration": "after this iteration"}[when]
        self.app.show_message(f"stopping {moment}; r resumes, or: {command('resume', self.run)}")

    def action_resume(self) -> None:
        """Resume the run in the background."""
        try:
            resume(self.run)
        except TspinError as error:
            self.app.show_error(error)
            return
        self.frozen = None
        self.source = LiveSource(self.run, self.app.clock)
        self.refresh_status()

    def action_fork(self) -> None:
        """Show the form for a fork of this run."""
        from .new_run import NewRunScreen

        self.app.push_screen(NewRunScreen(self.run))

    def action_compare(self) -> None:
        """Compare this run with the latest other runs."""
        from ..state.listing import list_runs
        from .compare import MAX_RUNS, CompareScreen

        others = [run.path for run in list_runs(self.app.folder) if run.path.name != self.run.name and run.sparkline]
        if not others:
            self.app.show_message(f"no other run in {self.app.folder} has curves yet", warning=True)
            return
        self.app.push_screen(CompareScreen([self.run.path, *others][:MAX_RUNS]))

    def action_export(self) -> None:
        """Show the export form."""
        from .export import ExportScreen

        self.app.push_screen(ExportScreen(self.run))

    def action_chat(self) -> None:
        """Show the chat."""
        from .chat import ChatScreen

        self.app.push_screen(ChatScreen(self.run))

    def action_detach(self) -> None:
        """Close the screen; if training continues, show how to come back."""
        working = self.source.state in ("running", "stalled")
        self.dismiss()
        if working:
            self.app.show_message(f"{self.run.name} continues in the background\n{command('watch', self.run)}")
