"""Metrics pane: a small chart for every metric of the optimiser steps, with a filter."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from tspin_mlx.view.chart import ChartStyle, Ink, Mark, Plot, Row, Series, draw, fit_row, format_number
from tspin_mlx.view.run_view import RunView

from ..keys import binding
from ..state.status import RunStatus
from ..widgets.chart import background_style, chart_style, row_strip
from .pane import Pane

_HEIGHT, _MIN_WIDTH, _GAP = 7, 36, 2  # of one chart, in cells


class MetricsGrid(Widget):
    """A grid of charts, in as many columns as fit; only the visible rows are drawn.

    Attributes:
        view: the run at the moment that is shown.
        names: the metrics whose names contain :attr:`search`, in alphabetical order.
        search: a part of a name; empty for all metrics.
        log_scale: use logarithmic scales where all values are positive.
    """

    DEFAULT_CSS = "MetricsGrid { height: auto; width: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self.view = RunView()
        self.names: list[str] = []
        self.search, self.log_scale = "", False
        self._drawn: dict[int, list[list[Row]]] = {}  # by row of the grid
        self._drawn_for = (0, 0, "")

    def show(self, view: RunView) -> None:
        """Show the metrics of a run."""
        before, self.view = self.names, view
        self.names = sorted(name for name in view.steps.names() if self.search in name)
        self._drawn.clear()
        self.refresh(layout=self.names != before)

    @property
    def columns(self) -> int:
        """The number of charts in a row."""
        return _columns(self.size.width)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the height of all rows of charts."""
        return max(1, -(-len(self.names) // _columns(width)) * _HEIGHT)

    def render_line(self, y: int) -> Strip:
        """Return one line of a row of charts."""
        width, background = self.size.width, background_style(self)
        names = self.names
        if not names:
            text = f"no metric name contains {self.search}" if y == 0 and self.search else ""
            return Strip([Segment(text, background)])
        columns, row = self.columns, y // _HEIGHT
        chart_width = (width + _GAP) // columns - _GAP
        charts = self._charts(row, names[row * columns : (row + 1) * columns], chart_width)
        strips = [row_strip(self, chart[y % _HEIGHT], chart_width) for chart in charts]
        gap = Strip([Segment(" " * _GAP, background)])
        return Strip.join([part for strip in strips for part in (strip, gap)]).adjust_cell_length(width, background)

    def _charts(self, row: int, names: list[str], width: int) -> list[list[Row]]:
        if self._drawn_for != (width, self.columns, self.app.theme):
            self._drawn_for = (width, self.columns, self.app.theme)
            self._drawn.clear()
        if row not in self._drawn:
            style = chart_style(self.app, legend=False, marks=False, axis=False)
            self._drawn[row] = [self._chart(name, width, style) for name in names]
        return self._drawn[row]

    def _chart(self, name: str, width: int, style: ChartStyle) -> list[Row]:
        values = self.view.steps.column(name)
        marks = tuple(Mark(part.start, "") for part in self.view.parts)
        known = values[values == values]
        last = format_number(float(known[-1])) if len(known) else "–"
        head = [
            (f"{name:<{max(1, width - len(last) - 1)}} "[: max(0, width - len(last))], Ink("dim")),
            (last, Ink("plain")),
        ]
        plot = Plot((Series(name, values),), marks, log=self.log_scale)
        return [fit_row(head, width), *draw(plot, width, _HEIGHT - 2, style), [(" " * width, Ink("plain"))]]


def _columns(width: int) -> int:
    return max(1, (width + _GAP) // (_MIN_WIDTH + _GAP))


class Filter(Input):
    """The input for a part of a metric's name."""

    HELP = "Type part of a metric's name. Enter returns to the charts, escape clears the filter."
    BINDINGS: ClassVar[list[BindingType]] = [binding("back", "clear_filter", "show all")]

    def action_clear_filter(self) -> None:
        """Clear the filter, and return to the charts."""
        self.value = ""
        self.post_message(self.Submitted(self, ""))


class MetricsPane(Pane):
    """The grid of charts below the filter."""

    HELP = "Every metric of the optimiser steps. A vertical line marks the start of a training phase."
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("filter", "filter", "filter", tooltip="Show only metrics whose name contains some text"),
        binding("log", "log", "log scale", tooltip="Logarithmic scales where all values are positive"),
    ]

    def compose(self) -> ComposeResult:
        """Yield the filter, which is hidden while it is empty, and the grid."""
        yield Filter(placeholder="part of a metric's name", id="metric-filter")
        with VerticalScroll(id="metrics-scroll"):
            yield MetricsGrid()

    def on_mount(self) -> None:
        """Hide the filter."""
        search = self.query_one(Filter)
        search.display = search.cursor_blink = False

    @property
    def grid(self) -> MetricsGrid:
        """The grid of charts."""
        return self.query_one(MetricsGrid)

    def show(self, status: RunStatus) -> None:
        """Redraw the charts if there are new steps; in a long run, more than a thousandth of all steps."""
        new_steps = len(status.view.steps) - len(self.grid.view.steps)
        if not 0 <= new_steps <= len(status.view.steps) // 1000:
            self.grid.show(status.view)

    def take_focus(self) -> None:
        """Focus the grid, so that the cursor keys scroll it."""
        self.query_one("#metrics-scroll").focus()

    def action_filter(self) -> None:
        """Show and focus the filter."""
        search = self.query_one(Filter)
        search.display = True
        search.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter the charts while the user types."""
        self.grid.search = event.value.strip()
        self.grid.show(self.grid.view)

    def on_input_submitted(self) -> None:
        """Keep the filter, and return to the charts."""
        self.query_one(Filter).display = bool(self.grid.search)
        self.take_focus()

    def action_log(self) -> None:
        """Switch between linear and logarithmic scales."""
        self.grid.log_scale = not self.grid.log_scale
        self.grid.show(self.grid.view)
