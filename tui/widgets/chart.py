"""The chart as a widget of its own: give it a plot, and it fills whatever room it has."""

from __future__ import annotations

from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tspin_mlx.view.chart import ChartStyle, Plot, Row, draw

from ..theme import palette


class ChartView(Widget):
    """Draws a :class:`tspin_mlx.view.chart.Plot`; set :attr:`plot` to show another.

    Args:
        legend, marks, axis: which rows to have around the curves.
    """

    DEFAULT_CSS = "ChartView { width: 1fr; height: 1fr; }"

    plot: reactive[Plot | None] = reactive(None, always_update=True)

    def __init__(self, *, legend: bool = True, marks: bool = True, axis: bool = True, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts = {"legend": legend, "marks": marks, "axis": axis}
        self._rows: list[Row] = []
        self._drawn: tuple[Plot | None, tuple[object, ...]] = (None, ())

    def render_line(self, y: int) -> Strip:
        """One row of the chart; all are drawn when the first is asked for."""
        width, height = self.size
        place = (width, height, self.app.theme)
        if self.plot is not self._drawn[0] or place != self._drawn[1]:
            style = chart_style(self.app, **self._parts)
            self._rows = draw(self.plot, width, height, style) if self.plot and width and height else []
            self._drawn = (self.plot, place)
        return strip_of(self, self._rows[y], width) if y < len(self._rows) else Strip.blank(width, ground_of(self))


def chart_style(app: App[Any], **parts: bool) -> ChartStyle:
    """How charts are drawn here: without colours the lines differ by their dashes."""
    return ChartStyle(bands=bool(palette(app).bands), dashed=app.no_color, **parts)


def strip_of(widget: Widget, row: Row, width: int) -> Strip:
    """A row of a chart in the colours of the app."""
    colours, ground = palette(widget.app), ground_of(widget)
    return Strip([Segment(text, ground + colours.style(ink)) for text, ink in row], width)


def ground_of(widget: Widget) -> Style:
    """The background that a widget's own drawing lies on."""
    return Style(bgcolor=widget.background_colors[1].rich_color)
