"""2 Metrics: every metric of the steps as a small chart."""

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

from ..keys import bound
from ..state.status import Now
from ..widgets.chart import chart_style, ground_of, strip_of
from .pane import Pane

_HEIGHT, _WIDTH, _GAP = 7, 36, 2  # of one chart, in cells


class MetricsGrid(Widget):
    """All charts that match, in as many columns as fit; only the visible ones are drawn.

    Attributes:
        view: what is shown.
        names: the metrics whose names contain what is looked for, related ones side by side.
        wanted: a part of a name.
        log_scale: where all values are above zero.
    """

    DEFAULT_CSS = "MetricsGrid { height: auto; width: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self.view = RunView()
        self.names: list[str] = []
        self.wanted, self.log_scale = "", False
        self._made: dict[int, list[list[Row]]] = {}
        self._made_for = (0, 0, "")

    def show(self, view: RunView) -> None:
        """Show the metrics of another moment."""
        before, self.view = self.names, view
        self.names = sorted(name for name in view.steps.names() if self.wanted in name)
        self._made.clear()
        self.refresh(layout=self.names != before)

    @property
    def columns(self) -> int:
        """How many charts stand side by side."""
        return max(1, (self.size.width + _GAP) // (_WIDTH + _GAP))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """All rows of charts."""
        columns = max(1, (width + _GAP) // (_WIDTH + _GAP))
        return max(1, -(-len(self.names) // columns) * _HEIGHT)

    def render_line(self, y: int) -> Strip:
        """One line of a row of charts."""
        width, ground = self.size.width, ground_of(self)
        names = self.names
        if not names:
            return Strip([Segment(f"no metric is called …{self.wanted}…" if y == 0 and self.wanted else "", ground)])
        columns, row = self.columns, y // _HEIGHT
        each = (width + _GAP) // columns - _GAP
        charts = self._charts(row, names[row * columns : (row + 1) * columns], each)
        strips = [strip_of(self, chart[y % _HEIGHT], each) for chart in charts]
        gap = Strip([Segment(" " * _GAP, ground)])
        return Strip.join([part for strip in strips for part in (strip, gap)]).adjust_cell_length(width, ground)

    def _charts(self, row: int, names: list[str], width: int) -> list[list[Row]]:
        if self._made_for != (width, self.columns, self.app.theme):
            self._made_for = (width, self.columns, self.app.theme)
            self._made.clear()
        if row not in self._made:
            style = chart_style(self.app, legend=False, marks=False, axis=False)
            self._made[row] = [self._chart(name, width, style) for name in names]
        return self._made[row]

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


class Filter(Input):
    """A part of a name."""

    HELP = "Type a part of a metric's name. Enter goes back to the charts, escape shows all of them again."
    BINDINGS: ClassVar[list[BindingType]] = [bound("back", "drop", "show all")]

    def action_drop(self) -> None:
        """Show all again."""
        self.value = ""
        self.post_message(self.Submitted(self, ""))


class MetricsPane(Pane):
    """The grid, and a line to look for names."""

    HELP = "Every metric of the optimiser steps. A vertical line is where a phase of training begins."
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("filter", "filter", "filter", tooltip="Show the metrics whose name contains a word"),
        bound("log", "log", "log scale", tooltip="Logarithmic scales where all values are above zero"),
    ]

    def compose(self) -> ComposeResult:
        """A line for the filter, hidden while it is empty, and the grid."""
        yield Filter(placeholder="part of a name", id="metric-filter")
        with VerticalScroll(id="metrics-scroll"):
            yield MetricsGrid()

    def on_mount(self) -> None:
        """No filter at first."""
        line = self.query_one(Input)
        line.display = line.cursor_blink = False

    @property
    def grid(self) -> MetricsGrid:
        """All charts."""
        return self.query_one(MetricsGrid)

    def show(self, now: Now) -> None:
        """Draw again if there are new steps; of a long run, when they are a thousandth of it."""
        more = len(now.view.steps) - len(self.grid.view.steps)
        if not 0 <= more <= len(now.view.steps) // 1000:
            self.grid.show(now.view)

    def take_focus(self) -> None:
        """The keys that scroll belong to the grid."""
        self.query_one("#metrics-scroll").focus()

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        line = self.query_one(Input)
        line.display = True
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self.grid.wanted = event.value.strip()
        self.grid.show(self.grid.view)

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the charts."""
        self.query_one(Input).display = bool(self.grid.wanted)
        self.take_focus()

    def action_log(self) -> None:
        """Change the scale."""
        self.grid.log_scale = not self.grid.log_scale
        self.grid.show(self.grid.view)
