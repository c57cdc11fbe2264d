"""Advantage pane: the chart of both advantages, and the side panel with the current numbers."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll

from tspin_mlx.view.chart import advantage_plot

from ..keys import binding
from ..state.status import RunStatus, side_panel, summary_line
from ..widgets.chart import ChartView
from ..widgets.status_line import StatusLine
from .pane import Pane


class AdvantagePane(Pane):
    """The chart next to the side panel; on a narrow screen, above a summary line."""

    HELP = (
        "current: log π(y) − log π(y′), the expert's answer against the model's own. "
        "historical: log π(y′) − log π(y0), the model's own answer against the initial model's. The line is a moving "
        "average that restarts at each iteration; the band spans the minimum and maximum of each batch. Before "
        "self-play the chart shows the warm-up's NLL of the expert's answers."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("smoother", "smooth(2)", "smoother", show=False, tooltip="Average over twice as many steps"),
        binding("rougher", "smooth(0.5)", "rougher", show=False, tooltip="Average over half as many steps"),
    ]

    _window: int | None = None
    _last: RunStatus | None = None

    def compose(self) -> ComposeResult:
        """Yield the chart, the side panel and the summary line."""
        with Horizontal():
            yield ChartView(id="advantages")
            with VerticalScroll(id="panel-scroll", can_focus=False):
                yield StatusLine(id="panel")
        yield StatusLine(id="summary")

    def show(self, status: RunStatus) -> None:
        """Update the panel and, if there are new steps, the chart."""
        before, self._last = self._last, status
        if before is None or before.view.steps is not status.view.steps or before.view.parts is not status.view.parts:
            self._plot()
        width = self.query_one("#panel-scroll").scrollable_content_region.width or 34
        self.query_one("#panel", StatusLine).show(side_panel(status, max(20, width)))
        self.query_one("#summary", StatusLine).show(summary_line(status, max(10, self.size.width)))

    def _plot(self) -> None:
        if self._last is not None:
            self.query_one(ChartView).plot = advantage_plot(self._last.view, self._window)

    def action_smooth(self, factor: float) -> None:
        """Average over more or fewer steps."""
        if self._last is not None:
            plot = advantage_plot(self._last.view, self._window)
            self._window = max(1, round(plot.effective_window * factor))
            if factor > 1 and self._window == plot.effective_window:
                self._window += 1
            self._plot()
