"""Line charts over the steps of a run, as terminal text and as SVG. Pure."""

from .advantage import CURRENT, HISTORICAL, advantage_plot
from .plot import Mark, Plot, Series, format_number
from .svg import advantage_svg
from .text import ChartStyle, Ink, Row, draw, fit_row

__all__ = [
    "CURRENT",
    "HISTORICAL",
    "ChartStyle",
    "Ink",
    "Mark",
    "Plot",
    "Row",
    "Series",
    "advantage_plot",
    "advantage_svg",
    "draw",
    "fit_row",
    "format_number",
]
