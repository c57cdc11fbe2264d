"""1 Advantage: both curves, and the present in numbers."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll

from tspin_mlx.view.chart import advantage_plot

from ..keys import bound
from ..state.status import Now, brief, panel
from ..widgets.chart import ChartView
from ..widgets.status_line import Told
from .pane import Pane


class AdvantagePane(Pane):
    """The chart beside the panel; on a narrow screen, above one line."""

    HELP = (
        "current: log π(y) − log π(y′), the expert's answer over the model's own. historical: log π(y′) − log π(y0), "
        "the model's own answer over that of the very start. The line is a moving average that begins anew with each "
        "iteration; the band reaches from the least to the greatest triplet of each batch. Before self-play the "
        "warm-up's NLL of the expert's answers is here."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("smoother", "smooth(2)", "smoother", show=False, tooltip="Average over twice as many steps"),
        bound("rougher", "smooth(0.5)", "rougher", show=False, tooltip="Average over half as many steps"),
    ]

    _window: int | None = None
    _last: Now | None = None

    def compose(self) -> ComposeResult:
        """Chart and panel."""
        with Horizontal():
            yield ChartView(id="advantages")
            with VerticalScroll(id="now", can_focus=False):
                yield Told(id="panel")
        yield Told(id="brief")

    def show(self, now: Now) -> None:
        """Draw the curves so far."""
        before, self._last = self._last, now
        if before is None or before.view.steps is not now.view.steps or before.view.parts is not now.view.parts:
            self.draw()
        side = self.query_one("#now")
        self.query_one("#panel", Told).tell(panel(now, max(20, side.scrollable_content_region.width or 34)))
        self.query_one("#brief", Told).tell(brief(now, max(10, self.size.width)))

    def draw(self) -> None:
        """Draw the chart anew."""
        if self._last is not None:
            self.query_one(ChartView).plot = advantage_plot(self._last.view, self._window)

    def action_smooth(self, factor: float) -> None:
        """Average over more or fewer steps."""
        if self._last is not None:
            plot = advantage_plot(self._last.view, self._window)
            self._window = max(1, round(plot.effective_window * factor))
            if factor > 1 and self._window == plot.effective_window:
                self._window += 1
            self.draw()
