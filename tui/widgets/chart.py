"""Chart widget: draws a plot at whatever size it has."""

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
    """Draws a :class:`tspin_mlx.view.chart.Plot`; set :attr:`plot` to show another one.

    Args:
        legend, marks, axis: which rows to show around the curves.
    """

    DEFAULT_CSS = "ChartView { width: 1fr; height: 1fr; }"

    plot: reactive[Plot | None] = reactive(None, always_update=True)

    def __init__(self, *, legend: bool = True, marks: bool = True, axis: bool = True, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts = {"legend": legend, "marks": marks, "axis": axis}
        self._rows: list[Row] = []
        self._drawn: tuple[Plot | None, tuple[int, int, str] | None] = (None, None)  # what _rows shows

    def render_line(self, y: int) -> Strip:
        """Return one row; the whole chart is drawn when the plot, the size or the theme has changed."""
        width, height = self.size
        setting = (width, height, self.app.theme)
        if self.plot is not self._drawn[0] or setting != self._drawn[1]:
            style = chart_style(self.app, **self._parts)
            self._rows = draw(self.plot, width, height, style) if self.plot and width and height else []
            self._drawn = (self.plot, setting)
        if y >= len(self._rows):
            return Strip.blank(width, background_style(self))
        return row_strip(self, self._rows[y], width)


def chart_style(app: App[Any], **parts: bool) -> ChartStyle:
    """Return the chart style for the app's terminal: without colours, dashes tell the lines apart."""
    return ChartStyle(bands=bool(palette(app).bands), dashed=app.no_color, **parts)


def row_strip(widget: Widget, row: Row, width: int) -> Strip:
    """Return a row of a chart as a strip, in the colours of the app."""
    colours, background = palette(widget.app), background_style(widget)
    return Strip([Segment(text, background + colours.style(ink)) for text, ink in row], width)


def background_style(widget: Widget) -> Style:
    """Return the background of a widget as a style."""
    return Style(bgcolor=widget.background_colors[1].rich_color)
