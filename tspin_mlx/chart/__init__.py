"""Curves over the steps of a run: a smoothed line over the band of what is below it, as text and as SVG. Pure."""

from .advantage import CURRENT, HISTORICAL, advantage_plot
from .cells import Ink, Look, Row, draw
from .plot import Mark, Plot, Series
from .svg import advantage_svg

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
]
