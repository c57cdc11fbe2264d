"""Line charts over the steps of a run, as text for a terminal and as SVG. Pure."""

from .advantage import CURRENT, HISTORICAL, advantage_plot
from .plot import Mark, Plot, Series, number
from .svg import advantage_svg
from .text import Ink, Look, Row, draw, fitted

__all__ = [
    "CURRENT",
    "HISTORICAL",
    "Ink",
    "Look",
    "Mark",
    "Plot",
    "Row",
    "Series",
    "advantage_plot",
    "advantage_svg",
    "draw",
    "fitted",
    "number",
]
