"""A few estimates with their errors, line by line, as SVG: such as a measure after each iteration, over seeds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from tspin_mlx.base.text import printable
from tspin_mlx.view.chart.plot import Scale
from tspin_mlx.view.chart.svg import LEFT, Area, classes, document
from tspin_mlx.view.colours import MANY_ON_DARK, MANY_ON_LIGHT

_DODGE = 7  # units between the points of neighbouring lines: their bars would hide one another
_LETTER = 7.4  # width of a letter of the legend, on average
_LEGEND_ROW = 20
_CAP = 3.5  # half the width of a bar's ends
_MARKS = (
    "M{x} {y}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",  # circle, square, triangle, diamond
    "M{x} {y}m-3.6 -3.6h7.2v7.2h-7.2z",
    "M{x} {y}m0 -4.8l4.6 8h-9.2z",
    "M{x} {y}m0 -5l5 5l-5 5l-5 -5z",
)

#: How many lines can be told apart.
MOST_LINES = len(MANY_ON_LIGHT)


@dataclass(frozen=True)
class Estimates:
    """One line.

    Attributes:
        name: in the legend.
        values: one at each label, shape (n,); NaN is not drawn.
        errors: what a bar reaches to either side, shape (n,); NaN is no bar.
    """

    name: str
    values: np.ndarray
    errors: np.ndarray


def estimates_svg(
    lines: Sequence[Estimates], labels: Sequence[str], *, title: str, note: str, width: int = 960, height: int = 420
) -> str:
    """A picture of some lines, each point with its error bar.

    Args:
        lines: at least one with a value, at most ``MOST_LINES``.
        labels: of the points, below the chart.
        note: what is shown and what a bar means.
    """
    legend = list(_legend(lines, width))
    rows = 1 + max(row for row, _, _ in legend)
    area = Area(width, height, top=56 + _LEGEND_ROW * (rows + 1))
    scale = _scale(lines)
    parts = [f"<style>{_style()}</style>"]
    parts += [_entry(index, 52 + _LEGEND_ROW * row, x, text) for index, (row, x, text) in enumerate(legend)]
    parts.append(f'<text class="quiet" x="{LEFT}" y="{56 + _LEGEND_ROW * rows}">{escape(printable(note))}</text>')
    parts += area.grid(scale)
    parts += [area.below((i + 0.5) / len(labels), escape(printable(label))) for i, label in enumerate(labels)]
    for index in reversed(range(len(lines))):
        parts += _line(area, scale, lines, index)
    return document(parts, title, describe(lines, labels, note), width, height)


def describe(lines: Sequence[Estimates], labels: Sequence[str], note: str) -> str:
    """The chart in words, for those who do not see it."""
    parts = [f"{printable(note)}."]
    for line in lines:
        points = [
            f"{value:.3f}{'' if np.isnan(error) else f' ± {error:.3f}'} at {label}"
            for label, value, error in zip(labels, line.values, line.errors, strict=True)
            if not np.isnan(value)
        ]
        parts.append(f"{line.name}: {', '.join(points) or 'nothing'}.")
    return printable(" ".join(parts))


def _scale(lines: Sequence[Estimates]) -> Scale:
    """All of the bars, and a little room."""
    values, errors = (np.array([getattr(line, name) for line in lines], float) for name in ("values", "errors"))
    errors = np.nan_to_num(errors)
    low, high = float(np.nanmin(values - errors)), float(np.nanmax(values + errors))
    room = (high - low) * 0.06 or abs(low) * 0.1 or 0.5
    return Scale(low - room, high + room, log=False)


def _legend(lines: Sequence[Estimates], width: int) -> Iterator[tuple[int, float, str]]:
    """Row, place and text of each name."""
    row, x = 0, float(LEFT)
    for line in lines:
        text = printable(line.name)
        needed = 14 + _LETTER * len(text)
        if x > LEFT and x + needed > width - 16:
            row, x = row + 1, float(LEFT)
        yield row, round(x, 1), text
        x += needed + 18


def _entry(index: int, y: float, x: float, text: str) -> str:
    return f'{_mark(index, x + 5, y)}<text class="f{index}" x="{x + 14:g}" y="{y + 4.5}">{escape(text)}</text>'


def _line(area: Area, scale: Scale, lines: Sequence[Estimates], index: int) -> Iterator[str]:
    """The line, its bars and its marks."""
    line, count = lines[index], len(lines[index].values)
    shift = _DODGE * (index - (len(lines) - 1) / 2)
    points = [
        (round(area.x((i + 0.5) / count) + shift, 1), value, error)
        for i, (value, error) in enumerate(zip(line.values.tolist(), line.errors.tolist(), strict=True))
        if value == value
    ]

    def y(value: float) -> float:
        return area.y(float(scale.height(value)))

    path = " ".join(f"{x},{y(value)}" for x, value, _ in points)
    yield f'<polyline class="line c{index}" points="{path}"/>'
    for x, value, error in points:
        if error == error:
            low, high = y(value - error), y(value + error)
            cap = f"m{-_CAP} 0h{2 * _CAP:g}"
            yield f'<path class="bar c{index}" d="M{x} {low}V{high}{cap}M{x} {low}{cap}"/>'
        yield _mark(index, x, y(value))


def _mark(index: int, x: float, y: float) -> str:
    path = _MARKS[index % len(_MARKS)].format(x=round(x, 1), y=y)
    return f'<path class="f{index}" d="{path}"/>'


def _style() -> str:
    """Colours for light and dark backgrounds."""
    dark = f"@media (prefers-color-scheme: dark) {{ {' '.join(classes(MANY_ON_DARK))} }}"
    return f".bar {{ fill: none; stroke-width: 1.4; }} {' '.join(classes(MANY_ON_LIGHT))} {dark}"
