"""Render a plot as terminal text: braille lines over bands of block characters, each at its own resolution. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from .plot import Plot, Scale, Traced, downsampled, format_number, step_ticks, trace

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # braille bits by row and column in a cell
_BLOCKS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = 8
_ENOUGH_FOR_TICKS = 512  # columns and steps that give the range well enough for tick labels


class Ink(NamedTuple):
    """The colours of some cells, by name: each screen has its own palette for the names.

    Attributes:
        foreground: ``plain``, ``dim``, ``mark``, ``zero``, ``line0``, ``line1`` and so on, or a name of a background.
        background: ``band0``, ``band1``, ``bands`` where the two overlap, or empty.
    """

    foreground: str
    background: str = ""


#: One row of a chart: pieces of text, each with its colours.
Row = list[tuple[str, Ink]]


@dataclass(frozen=True)
class ChartStyle:
    """Which rows surround the curves, and how the curves are drawn.

    Attributes:
        legend: a first row with names, last values and unit.
        marks: a row with the labels of the marks.
        axis: a last row with step numbers.
        bands: fill the bands; without colours they would hide the lines.
        dashed: dash all lines but the first, to tell them apart without colours.
    """

    legend: bool = True
    marks: bool = True
    axis: bool = True
    bands: bool = True
    dashed: bool = False


def draw(plot: Plot, width: int, height: int, style: ChartStyle = ChartStyle()) -> list[Row]:
    """Draw a chart of exactly ``width`` x ``height`` cells; where room is short, the curves stay longest.

    Args:
        width: at least 1.
        height: at least 1.
    """
    head = [_legend(plot, width, style)] if style.legend and height > 3 else []
    with_marks, with_axis = style.marks and plot.marks and height > 6, style.axis and height > 4
    body_height = height - len(head) - bool(with_marks) - with_axis
    max_ticks = max(2, body_height // 3) if width >= 16 and plot.steps else 0
    gutter = _label_width(plot, max_ticks) + 1
    columns = width - gutter
    traced, scale = trace(plot, 2 * columns)
    rows = _body(plot, traced, scale, columns, body_height, style)
    labels = [(at, text) for at, text in scale.ticks(max_ticks) if len(text) < gutter]
    for row, label in zip(rows, _left_labels(labels, gutter, body_height), strict=True):
        row.insert(0, label)
    if with_marks:
        head.append([(" " * gutter, Ink("dim")), *_mark_labels(plot, columns)])
    foot = [[(" " * gutter, Ink("dim")), *_step_labels(plot, columns)]] if with_axis else []
    return [*head, *rows, *foot]


def _label_width(plot: Plot, max_ticks: int) -> int:
    """Return the width of the longest tick label, -1 without ticks; the plot is downsampled, for speed."""
    scale = trace(downsampled(plot, _ENOUGH_FOR_TICKS), _ENOUGH_FOR_TICKS)[1]
    return max((len(text) for _, text in scale.ticks(max_ticks)), default=-1)


# --- the curves


def _body(
    plot: Plot, traced: tuple[Traced, ...], scale: Scale, columns: int, rows: int, style: ChartStyle
) -> list[Row]:
    if not plot.steps:
        return _empty(columns, rows)
    bands = _band_cells(traced, scale, columns, rows) if style.bands else np.zeros((rows, _EIGHTHS, columns), int)
    top, bottom = bands[:, 0], bands[:, -1]
    level = (bands != top[:, None]).sum(axis=1)
    parts = [part.tolist() for part in (top, bottom, level)]
    parts += _line_cells(traced, scale, columns, rows, style.dashed)
    parts.append(_underlay(plot, scale, columns, rows))
    body = []
    for row in zip(*parts, strict=True):
        cells = [_cell(*cell) for cell in zip(*row, strict=True)]
        body.append([("".join(char for char, _ in run), ink) for ink, run in _runs(cells)])
    return body


def _runs(cells: list[tuple[str, Ink]]) -> Iterator[tuple[Ink, list[tuple[str, Ink]]]]:
    return ((ink, list(run)) for ink, run in groupby(cells, key=lambda cell: cell[1]))


_BANDS = ("", "band0", "band1", "bands")


def _cell(top: int, bottom: int, level: int, dots: int, line: int, underlay: tuple[str, str]) -> tuple[str, Ink]:
    """Return the character of one cell and its colours.

    Args:
        top, bottom: the bands at its upper and lower edge, one bit per band.
        level: how many eighths of it differ from its upper edge; they are at its bottom.
        dots, line: the braille dots of the lines, and which line they belong to.
        underlay: character and colour where there is no line.
    """
    if dots or underlay[0]:
        background = _BANDS[top if level <= _EIGHTHS // 2 else bottom]
        if dots:
            return chr(0x2800 + dots), Ink(f"line{line}", background)
        return underlay[0], Ink(underlay[1], background)
    if top == bottom:
        return " ", Ink("plain", _BANDS[top])
    if bottom:
        return _BLOCKS[level], Ink(_BANDS[bottom], _BANDS[top])
    # Block characters fill from below: where a band ends from above, the cell is filled or not by the larger part.
    return " ", Ink("plain", _BANDS[top] if level <= _EIGHTHS // 2 else "")


def _band_cells(traced: tuple[Traced, ...], scale: Scale, columns: int, rows: int) -> np.ndarray:
    """Return the bands at each eighth of a cell, from the top: shape (rows, eighths, columns), one bit for each of the
    first two bands."""
    total = rows * _EIGHTHS
    bands = np.zeros((total, columns), int)
    centres = (np.arange(total)[::-1, None] + 0.5) / total
    for bit, series in enumerate(traced[:2], start=1):
        if series.low is not None and series.high is not None:
            low, high = (scale.height(edge).reshape(columns, 2).mean(axis=1) for edge in (series.low, series.high))
            bands |= np.where((centres >= low) & (centres <= high), bit, 0)
    return bands.reshape(rows, _EIGHTHS, columns)


def _line_cells(
    traced: tuple[Traced, ...], scale: Scale, columns: int, rows: int, dashed: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """Return, by row and column, the braille dots of all lines and which line the cell belongs to."""
    dots, line_of = ([[0] * columns for _ in range(rows)] for _ in range(2))
    last = rows * 4 - 1
    for index in reversed(range(len(traced))):
        heights = scale.height(traced[index].line)
        before = None
        for x, height in enumerate(heights.tolist()):
            if height != height:
                before = None
                continue
            y = min(last, max(0, round((1 - height) * last)))
            start = y if before is None else before + (y > before) - (y < before)
            before = y
            if dashed and index and x // 3 % 2:
                continue
            for dot in range(min(start, y), max(start, y) + 1):
                dots[dot // 4][x // 2] |= _DOTS[dot % 4][x % 2]
                line_of[dot // 4][x // 2] = index
    return dots, line_of


def _underlay(plot: Plot, scale: Scale, columns: int, rows: int) -> list[list[tuple[str, str]]]:
    """Return what shows where there is no line: the marks, and the dotted line at zero."""
    cells = [[("", "")] * columns for _ in range(rows)]
    height = float(scale.height(0.0)) if not scale.log else -1.0
    if plot.zero and 0 <= height <= 1:
        dot = round((1 - height) * (rows * 4 - 1))
        cells[dot // 4] = [(chr(0x2800 + _DOTS[dot % 4][0]), "zero")] * columns
    for column in _mark_columns(plot, columns):
        for row in cells:
            row[column] = ("│", "mark")
    return cells


def _mark_columns(plot: Plot, columns: int) -> list[int]:
    """Return the columns of the marks; a mark at the first step has no line."""
    last = max(1, plot.steps - 1)
    return [round(mark.at / last * (2 * columns - 1)) // 2 for mark in plot.marks if 0 < mark.at < plot.steps]


def _empty(columns: int, rows: int) -> list[Row]:
    body: list[Row] = [[(" " * columns, Ink("plain"))] for _ in range(rows)]
    body[rows // 2] = [("no steps yet".center(columns)[:columns], Ink("dim"))]
    return body


# --- legend, labels, axis


def _legend(plot: Plot, width: int, style: ChartStyle) -> Row:
    row: Row = []
    for index, series in enumerate(plot.series):
        known = series.values[~np.isnan(series.values)]
        last = plot.format_value(known[-1]) if len(known) else "–"
        stroke = "╌╌" if style.dashed and index else "━━"
        row += [(f"{stroke} {series.name} ", Ink(f"line{index}")), (f"{last}   ", Ink("plain"))]
    left = width - sum(len(text) for text, _ in row)
    for index, note in enumerate(plot.notes):
        separator = " · " if index else ""
        if (left := left - len(separator + note)) >= 0:
            row.append((separator + note, Ink("dim")))
    return fit_row(row, width)


def _left_labels(labels: list[tuple[float, str]], gutter: int, rows: int) -> list[tuple[str, Ink]]:
    column = [(" " * gutter, Ink("dim"))] * rows
    for height, text in labels:
        if 0 <= height <= 1:
            column[round((1 - height) * (rows * 4 - 1)) // 4] = (f"{text:>{gutter - 1}} ", Ink("dim"))
    return column


def _mark_labels(plot: Plot, columns: int) -> Row:
    line = [" "] * columns
    starts = [0 if mark.at == 0 else None for mark in plot.marks[:1]] + _mark_columns(plot, columns)
    at = [start for start in starts if start is not None]
    labels = [mark.label for mark in plot.marks if mark.at < max(1, plot.steps)][-len(at) :] if at else []
    room = min((after - before for before, after in zip(at, [*at[1:], columns], strict=True)), default=0)
    if any(len(label) + 1 > room for label in labels):
        labels = [label.rsplit(" ", 1)[-1] for label in labels]
    free = 0
    for start, label in zip(at, labels, strict=True):
        if start >= free and start + len(label) <= columns:
            line[start : start + len(label)] = label
            free = start + len(label) + 1
    return [("".join(line), Ink("dim"))]


def _step_labels(plot: Plot, columns: int) -> Row:
    """Return the step axis: round step numbers below their steps, and the word "step" at the left."""
    line = [" "] * columns
    if plot.steps:
        last = plot.first + plot.steps - 1
        texts = [
            (round((tick - plot.first) / max(1, plot.steps - 1) * (columns - 1)), format_number(tick, 1))
            for tick in step_ticks(plot.first, last, max(1, columns // 12))
        ]
        line[:5] = "step "[:columns]
        for at, text in texts:
            start = min(at - len(text) // 2, columns - len(text))
            if start > 4 and all(char == " " for char in line[start - 1 : start + len(text)]):
                line[start : start + len(text)] = text
    return [("".join(line), Ink("dim"))]


def fit_row(row: Row, width: int) -> Row:
    """Cut or pad a row to exactly ``width`` cells."""
    pieces: Row = []
    for text, ink in row:
        if width <= 0:
            break
        pieces.append((text[:width], ink))
        width -= len(pieces[-1][0])
    return [*pieces, (" " * width, Ink("plain"))] if width > 0 else pieces
