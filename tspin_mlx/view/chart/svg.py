"""Render the advantage chart as a self-contained SVG file, for light and dark pages. Pure.

:func:`document`, :class:`Area` and :func:`classes` serve other charts as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby

import numpy as np

from ...base.text import printable
from ..colours import ON_DARK, ON_LIGHT
from ..run_view import RunView
from .advantage import CURRENT, HISTORICAL, advantage_plot
from .plot import Plot, Scale, Series, Traced, format_number, step_ticks, trace

LEFT, _RIGHT, _TOP, _BOTTOM = 58, 22, 88, 46
_COLUMN = 3  # user units between two points of a curve


def classes(colours: Iterable[str]) -> Iterator[str]:
    """Yield the CSS classes that stroke (``.c0``) and fill (``.f0``) with each colour."""
    return (f".c{i} {{ stroke: {name}; }} .f{i} {{ fill: {name}; }}" for i, name in enumerate(colours))


# The SVG has a background of its own, so that its contrast does not depend on the page.
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.quiet { fill: #59636e; }
.ground { fill: #ffffff; stroke: #d1d9e0; }
.grid { stroke: #e6eaef; }
.mark { stroke: #aab4be; stroke-dasharray: 2 3; }
.zero { stroke: #59636e; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
.band { opacity: 0.16; }
LIGHT
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #9198a1; }
  .ground { fill: #14181f; stroke: #3d444d; }
  .grid { stroke: #262c36; }
  .mark { stroke: #59636e; }
  .zero { stroke: #9198a1; }
  DARK
}
""".replace("LIGHT", "\n".join(classes(ON_LIGHT[:2]))).replace("DARK", "\n  ".join(classes(ON_DARK[:2])))


def advantage_svg(view: RunView, *, title: str, width: int = 960, height: int = 420) -> str:
    """Return the chart of both advantages of a run as SVG, in nats over the steps of self-play.

    Args:
        title: shown above the chart, and read by screen readers.
        width, height: in user units, at least 320 x 200; the image scales to the place it is shown in.
    """
    plot = advantage_plot(view)
    frame = _Frame(width, height, plot)
    parts = [
        _legend(plot),
        *frame.axes(),
        *(path for index, series in reversed(list(enumerate(frame.traced))) for path in frame.band(index, series)),
        *frame.marks(),
        *(path for index, series in reversed(list(enumerate(frame.traced))) for path in frame.line(index, series)),
    ]
    return document(parts, title, describe(plot), width, height)


def document(parts: Iterable[str], title: str, description: str, width: int, height: int) -> str:
    """Return a whole SVG file: a background, the title, and ``parts``.

    Args:
        description: the chart in words, for screen readers.
    """
    title = escape(printable(title))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title description">',
        f'<title id="title">{title}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="title" x="{LEFT}" y="32">{title}</text>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def describe(plot: Plot) -> str:
    """Describe the chart in words, for screen readers."""
    if not plot.steps:
        return "No steps of self-play yet."
    parts = [f"{plot.steps} optimiser steps, {len(plot.marks)} iterations."]
    for series in plot.series:
        if len(known := _known(series)):
            name = f"{series.name} advantage" if series.name in (CURRENT, HISTORICAL) else series.name
            parts.append(
                f"{name[0].upper()}{name[1:]}: {plot.format_value(known[0])} at its first step, "
                f"{plot.format_value(known[-1])} at its last, between {plot.format_value(known.min())} and "
                f"{plot.format_value(known.max())} {plot.unit}."
            )
    return " ".join(parts)


class Area:
    """The plotting area: maps shares of it to coordinates."""

    def __init__(self, width: int, height: int, top: int = _TOP) -> None:
        self.top, self.right, self.bottom = top, width - _RIGHT, height - _BOTTOM

    def x(self, share: float) -> float:
        """Return the x coordinate of a share of the width, 0 at the left."""
        return round(LEFT + share * (self.right - LEFT), 1)

    def y(self, height: float) -> float:
        """Return the y coordinate of a height, 0 at the bottom, 1 at the top."""
        return round(self.bottom - min(1.0, max(0.0, height)) * (self.bottom - self.top), 1)

    def grid(self, scale: Scale) -> Iterator[str]:
        """Yield the grid: lines at round numbers, and their labels."""
        for height, text in scale.ticks(max(2, (self.bottom - self.top) // 56)):
            y = self.y(height)
            kind = "zero" if text == "0" else "grid"
            yield f'<path class="{kind}" d="M{LEFT} {y}H{self.right}"/>'
            yield f'<text class="quiet" x="{LEFT - 8}" y="{y + 4.5}" text-anchor="end">{text}</text>'

    def below(self, share: float, text: str, line: int = 1) -> str:
        """Return a text below the plotting area."""
        y = self.bottom + 18 * line
        return f'<text class="quiet" x="{self.x(share)}" y="{y}" text-anchor="middle">{text}</text>'


class _Frame(Area):
    """The plotting area of a plot over steps."""

    def __init__(self, width: int, height: int, plot: Plot) -> None:
        super().__init__(width, height)
        self.plot = plot
        self.columns = max(2, (self.right - LEFT) // _COLUMN)
        self.traced: tuple[Traced, ...]
        self.scale: Scale
        self.traced, self.scale = trace(plot, self.columns)

    def axes(self) -> Iterator[str]:
        """Yield the grid and the step axis."""
        yield from self.grid(self.scale)
        last = max(1, self.plot.steps - 1)
        for tick in step_ticks(1, self.plot.steps, max(2, (self.right - LEFT) // 110)):
            yield self.below((tick - 1) / last, format_number(tick, 1))
        yield self.below(0.5, "optimiser step", line=2)

    def marks(self) -> Iterator[str]:
        """Yield the vertical lines and their labels."""
        last, count = max(1, self.plot.steps - 1), len(self.plot.marks)
        full_labels = (self.right - LEFT) / max(1, count) > 80
        for mark in self.plot.marks:
            x, label = self.x(mark.at / last), mark.label if full_labels else mark.label.rsplit(" ", 1)[-1]
            yield f'<path class="mark" d="M{x} {self.top - 4}V{self.bottom}"/>'
            yield f'<text class="quiet" x="{x + 4}" y="{self.top - 8}">{escape(label)}</text>'

    def band(self, index: int, series: Traced) -> Iterator[str]:
        """Yield the polygons of a band, one for each stretch without gaps."""
        if series.low is None or series.high is None:
            return
        low, high = self.scale.height(series.low), self.scale.height(series.high)
        for stretch in _stretches(~np.isnan(low) & ~np.isnan(high)):
            above = " ".join(f"{self.x(i / (self.columns - 1))},{self.y(high[i])}" for i in stretch)
            below = " ".join(f"{self.x(i / (self.columns - 1))},{self.y(low[i])}" for i in reversed(stretch))
            yield f'<polygon class="band f{index}" points="{above} {below}"/>'

    def line(self, index: int, series: Traced) -> Iterator[str]:
        """Yield the polylines of a curve, one for each stretch without gaps."""
        heights = self.scale.height(series.line)
        dashes = ' stroke-dasharray="7 5"' if index else ""
        for stretch in _stretches(~np.isnan(heights)):
            points = " ".join(f"{self.x(i / (self.columns - 1))},{self.y(heights[i])}" for i in stretch)
            yield f'<polyline class="line c{index}"{dashes} points="{points}"/>'


def _legend(plot: Plot) -> str:
    parts = [f'<text x="{LEFT}" y="56" xml:space="preserve">']
    for index, series in enumerate(plot.series):
        known = _known(series)
        last = plot.format_value(known[-1]) if len(known) else "–"
        stroke = "╌╌" if index else "━━"
        parts.append(f'<tspan class="f{index}">{stroke} {series.name}</tspan> {last}     ')
    return "".join([*parts, f'<tspan class="quiet">{" · ".join(plot.notes)}</tspan></text>'])


def _known(series: Series) -> np.ndarray:
    return np.asarray(series.values[~np.isnan(series.values)])


def _stretches(known: np.ndarray) -> Iterator[list[int]]:
    """Yield runs of consecutive indices at which ``known`` is true."""
    for is_known, run in groupby(range(len(known)), key=lambda i: bool(known[i])):
        if is_known:
            yield list(run)
