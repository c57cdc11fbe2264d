"""A plot as rows of text: lines in braille dots over bands in blocks, so that both keep their own resolution. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from .plot import Plot, Scale, Traced, number, sampled, step_ticks, trace

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # braille, (row, column) in a cell
_BLOCKS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = 8
_ENOUGH_FOR_TICKS = 512  # columns and steps, to know the range


class Ink(NamedTuple):
    """How some cells are coloured, in words: a screen knows what they look like.

    Attributes:
        text: ``plain``, ``dim``, ``mark``, ``zero``, ``line0``, ``line1`` and so on, or as the ground.
        ground: ``band0``, ``band1``, ``bands`` where they lie over one another, or empty.
    """

    text: str
    ground: str = ""


#: Stretches of one ink.
Row = list[tuple[str, Ink]]


@dataclass(frozen=True)
class Look:
    """What is drawn around and below the lines.

    Attributes:
        legend: a first row with names, last values and unit.
        marks: a row with the labels of the marks.
        axis: a last row with step numbers.
        bands: whether to fill bands; without colours they would hide the lines.
        dashed: all lines but the first are dashed, to tell them apart without colours.
    """

    legend: bool = True
    marks: bool = True
    axis: bool = True
    bands: bool = True
    dashed: bool = False


def draw(plot: Plot, width: int, height: int, look: Look = Look()) -> list[Row]:
    """A chart of exactly ``width`` x ``height`` cells; what does not fit is left out, the curves last.

    Args:
        width: at least 1.
        height: at least 1.
    """
    head = [_legend(plot, width, look)] if look.legend and height > 3 else []
    with_marks, with_axis = look.marks and plot.marks and height > 6, look.axis and height > 4
    inside = height - len(head) - bool(with_marks) - with_axis
    most = max(2, inside // 3) if width >= 16 and plot.steps else 0
    gutter = (
        max(
            (len(text) for _, text in trace(sampled(plot, _ENOUGH_FOR_TICKS), _ENOUGH_FOR_TICKS)[1].ticks(most)),
            default=-1,
        )
        + 1
    )
    columns = width - gutter
    traced, scale = trace(plot, 2 * columns)
    rows = _body(plot, traced, scale, columns, inside, look)
    labels = [(at, text) for at, text in scale.ticks(most) if len(text) < gutter]
    for row, (before, ink) in zip(rows, _left_labels(labels, gutter, inside), strict=True):
        row.insert(0, (before, ink))
    if with_marks:
        head.append([(" " * gutter, Ink("dim")), *_mark_labels(plot, columns)])
    foot = [[(" " * gutter, Ink("dim")), *_step_labels(plot, columns)]] if with_axis else []
    return [*head, *rows, *foot]


# --- the curves


def _body(plot: Plot, traced: tuple[Traced, ...], scale: Scale, columns: int, rows: int, look: Look) -> list[Row]:
    if not plot.steps:
        return _empty(columns, rows)
    bands = _band_cells(traced, scale, columns, rows) if look.bands else np.zeros((rows, _EIGHTHS, columns), int)
    top, bottom = bands[:, 0], bands[:, -1]
    level = (bands != top[:, None]).sum(axis=1)
    parts = [*(part.tolist() for part in (top, bottom, level)), *_line_cells(traced, scale, columns, rows, look.dashed)]
    parts.append(_below(plot, scale, columns, rows))
    found = []
    for row in zip(*parts, strict=True):
        cells = [_cell(*cell) for cell in zip(*row, strict=True)]
        found.append([("".join(char for char, _ in run), ink) for ink, run in _runs(cells)])
    return found


def _runs(cells: list[tuple[str, Ink]]) -> Iterator[tuple[Ink, list[tuple[str, Ink]]]]:
    return ((ink, list(run)) for ink, run in groupby(cells, key=lambda cell: cell[1]))


_BANDS = ("", "band0", "band1", "bands")


def _cell(top: int, bottom: int, level: int, dots: int, owner: int, under: tuple[str, str]) -> tuple[str, Ink]:
    """One cell.

    Args:
        top, bottom: the bands at its edges, a bit per band.
        level: how many eighths, from below, are not as its top.
        dots, owner: braille of the lines, and whose it is.
        under: what shows where there is no line, and its ink.
    """
    if dots or under[0]:
        ground = _BANDS[top if level <= _EIGHTHS // 2 else bottom]
        return (chr(0x2800 + dots), Ink(f"line{owner}", ground)) if dots else (under[0], Ink(under[1], ground))
    if top == bottom:
        return " ", Ink("plain", _BANDS[top])
    if bottom:
        return _BLOCKS[level], Ink(_BANDS[bottom], _BANDS[top])
    # Blocks grow from below only: a band that ends in the cell from above has it whole or not at all.
    return " ", Ink("plain", _BANDS[top] if level <= _EIGHTHS // 2 else "")


def _band_cells(traced: tuple[Traced, ...], scale: Scale, columns: int, rows: int) -> np.ndarray:
    """(rows, eighths, columns), from the top: a bit per band, for the first two."""
    total = rows * _EIGHTHS
    found = np.zeros((total, columns), int)
    centres = (np.arange(total)[::-1, None] + 0.5) / total
    for bit, series in enumerate(traced[:2], start=1):
        if series.low is not None and series.high is not None:
            low, high = (scale.height(edge).reshape(columns, 2).mean(axis=1) for edge in (series.low, series.high))
            found |= np.where((centres >= low) & (centres <= high), bit, 0)
    return found.reshape(rows, _EIGHTHS, columns)


def _line_cells(
    traced: tuple[Traced, ...], scale: Scale, columns: int, rows: int, dashed: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """By row and column: braille dots of all lines, and which line the cell belongs to."""
    dots, owner = ([[0] * columns for _ in range(rows)] for _ in range(2))
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
                owner[dot // 4][x // 2] = index
    return dots, owner


def _below(plot: Plot, scale: Scale, columns: int, rows: int) -> list[list[tuple[str, str]]]:
    """What shows where there is no line: marks, and the dotted line at zero."""
    found = [[("", "")] * columns for _ in range(rows)]
    height = float(scale.height(0.0)) if not scale.log else -1.0
    if plot.zero and 0 <= height <= 1:
        dot = round((1 - height) * (rows * 4 - 1))
        found[dot // 4] = [(chr(0x2800 + _DOTS[dot % 4][0]), "zero")] * columns
    for column in _mark_columns(plot, columns):
        for row in found:
            row[column] = ("│", "mark")
    return found


def _mark_columns(plot: Plot, columns: int) -> list[int]:
    """Cells of the marks; one at the very beginning needs no line."""
    last = max(1, plot.steps - 1)
    return [round(mark.at / last * (2 * columns - 1)) // 2 for mark in plot.marks if 0 < mark.at < plot.steps]


def _empty(columns: int, rows: int) -> list[Row]:
    found: list[Row] = [[(" " * columns, Ink("plain"))] for _ in range(rows)]
    found[rows // 2] = [("no steps yet".center(columns)[:columns], Ink("dim"))]
    return found


# --- around them


def _legend(plot: Plot, width: int, look: Look) -> Row:
    row: Row = []
    for index, series in enumerate(plot.series):
        known = series.values[~np.isnan(series.values)]
        last = plot.number(known[-1]) if len(known) else "–"
        stroke = "╌╌" if look.dashed and index else "━━"
        row += [(f"{stroke} {series.name} ", Ink(f"line{index}")), (f"{last}   ", Ink("plain"))]
    left = width - sum(len(text) for text, _ in row)
    for place, note in enumerate(plot.notes):
        separator = " · " if place else ""
        if (left := left - len(separator + note)) >= 0:
            row.append((separator + note, Ink("dim")))
    return fitted(row, width)


def _left_labels(labels: list[tuple[float, str]], gutter: int, rows: int) -> list[tuple[str, Ink]]:
    found = [(" " * gutter, Ink("dim"))] * rows
    for height, text in labels:
        if 0 <= height <= 1:
            found[round((1 - height) * (rows * 4 - 1)) // 4] = (f"{text:>{gutter - 1}} ", Ink("dim"))
    return found


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
    """Round step numbers below their steps, the word at the left end."""
    line = [" "] * columns
    if plot.steps:
        last = plot.first + plot.steps - 1
        texts = [
            (round((tick - plot.first) / max(1, plot.steps - 1) * (columns - 1)), number(tick, 1))
            for tick in step_ticks(plot.first, last, max(1, columns // 12))
        ]
        line[:5] = "step "[:columns]
        for at, text in texts:
            start = min(at - len(text) // 2, columns - len(text))
            if start > 4 and all(char == " " for char in line[start - 1 : start + len(text)]):
                line[start : start + len(text)] = text
    return [("".join(line), Ink("dim"))]


def fitted(row: Row, width: int) -> Row:
    """A row of exactly ``width`` cells."""
    found: Row = []
    for text, ink in row:
        if width <= 0:
            break
        found.append((text[:width], ink))
        width -= len(found[-1][0])
    return [*found, (" " * width, Ink("plain"))] if width > 0 else found
