"""Curves over the steps of a run, a smoothed line over the band of what is below it, as text and as SVG; and estimates
with their errors, as SVG. Pure."""

from .advantage import CURRENT, HISTORICAL, advantage_plot
from .cells import Ink, Look, Row, draw, fitted
from .estimates import MOST_LINES, Estimates, estimates_svg
from .plot import Mark, Plot, Series, number
from .svg import advantage_svg

__all__ = [
    "CURRENT",
    "HISTORICAL",
    "MOST_LINES",
    "Estimates",
    "Ink",
    "Look",
    "Mark",
    "Plot",
    "Row",
    "Series",
    "advantage_plot",
    "advantage_svg",
    "draw",
    "estimates_svg",
    "fitted",
    "number",
]
