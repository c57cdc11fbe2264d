"""What a chart shows, and the arithmetic on the way to dots: thinning, smoothing, range and ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...base.text import signed

_POINTS_PER_COLUMN = 4  # what is left of a long series before it is smoothed
_SMOOTHED_OVER = 40  # by default, a window is this fraction of the series
_QUANTILE = 0.02  # of the band's edges that may lie outside the chart
_BAND_ROOM = 0.6  # of the lines' own range, that bands get above and below it


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: in the legend.
        values: one per step, shape (n,); what is not finite is not drawn.
        low, high: the band's edges, shape (n,); None without a band.
    """

    name: str
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True)
class Mark:
    """Something that began at a step: ``at`` is its index, ``label`` what to call it."""

    at: int
    label: str


@dataclass(frozen=True)
class Plot:
    """A chart without a size.

    Attributes:
        series: in the order of the legend; the first is drawn on top.
        marks: where smoothing begins anew.
        first: number of the first step.
        unit: of the values.
        window: steps over which the lines are smoothed, 1 for not at all; None takes a fraction of the series.
        zero: the value 0 is always shown, with a line.
        log: a logarithmic scale, if all values are above zero.
    """

    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    first: int = 1
    unit: str = ""
    window: int | None = None
    zero: bool = False
    log: bool = False

    @property
    def steps(self) -> int:
        """Length of the longest series."""
        return max((len(series.values) for series in self.series), default=0)

    @property
    def smoothed_over(self) -> int:
        """The window that is used."""
        return self.window if self.window is not None else max(1, self.steps // _SMOOTHED_OVER)

    def number(self, value: float) -> str:
        """A value as it is told: what has a zero line is read by its sign."""
        return signed(value) if self.zero else signed(value).removeprefix("+")

    @property
    def notes(self) -> list[str]:
        """What a legend has to say beside the names, the most important first."""
        notes = [self.unit] if self.unit else []
        if self.smoothed_over > 1:
            notes.append(f"mean of {self.smoothed_over} steps")
        if any(series.low is not None for series in self.series):
            notes.append("band: least to greatest of a batch")
        return notes


def sampled(plot: Plot, steps: int) -> Plot:
    """The plot with about so many of its steps, for a quick look at its range."""
    every = max(1, plot.steps // steps)

    def some(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[::every]

    series = (Series(s.name, s.values[::every], some(s.low), some(s.high)) for s in plot.series)
    return replace(plot, series=tuple(series), marks=())


@dataclass(frozen=True)
class Traced:
    """A series at the columns of a chart, each of shape (columns,), NaN where there is nothing."""

    name: str
    line: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


@dataclass(frozen=True)
class Scale:
    """From values to heights.

    Attributes:
        low, high: the values at the bottom and at the top; their powers of ten if ``log``.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    log: bool

    def height(self, values: np.ndarray | float) -> np.ndarray:
        """0 at the bottom, 1 at the top; NaN for what is not on the scale."""
        values = np.asarray(values, float)
        if self.log:
            values = np.log10(np.where(values > 0, values, np.nan))
        return (values - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Heights of round numbers, and how to write them."""
        if self.log:
            found = log_ticks(10**self.low, 10**self.high, most)
            return [(float(self.height(tick)), number(tick)) for tick in found]
        found = ticks(self.low, self.high, most)
        step = found[1] - found[0] if len(found) > 1 else abs(found[0]) if found else None
        return [(float(self.height(tick)), number(tick, step or 1.0)) for tick in found]


def trace(plot: Plot, columns: int) -> tuple[tuple[Traced, ...], Scale]:
    """The plot's series at equidistant columns (means for the line, extremes for the band), and their scale."""
    traced = tuple(_traced(series, plot, columns) for series in plot.series)
    values = np.concatenate([series.line for series in traced]) if traced else np.empty(0)
    log = plot.log and bool((values[~np.isnan(values)] > 0).all()) and not np.isnan(values).all()
    low, high = value_range(traced, plot)
    if log:
        lowest = float(np.nanmin(values))
        low, high = math.log10(max(low, lowest / 1.1)), math.log10(high) + 0.01
    return traced, Scale(low, high, log)


def _traced(series: Series, plot: Plot, columns: int) -> Traced:
    count = plot.steps
    kept = min(count, columns * _POINTS_PER_COLUMN)
    thinned = _binned(_finite(series.values, count), kept)
    breaks = [mark.at * kept // count for mark in plot.marks] if count else []
    line = smooth(thinned, plot.smoothed_over * kept / max(1, count), breaks)
    if series.low is None or series.high is None:
        return Traced(series.name, _at_columns(line, columns, breaks), None, None)
    bins = min(count, columns)
    low = -_binned(-_finite(series.low, count), bins, most=True)
    high = _binned(_finite(series.high, count), bins, most=True)
    ends = [mark.at * bins // count for mark in plot.marks] if count else []
    low, high = (_at_columns(edge, columns, ends) for edge in (low, high))
    return Traced(series.name, _at_columns(line, columns, breaks), low, high)


def _finite(values: np.ndarray, count: int) -> np.ndarray:
    """The values up to ``count`` steps; NaN where there is none."""
    longer = values if len(values) == count else np.append(values, np.full(count - len(values), np.nan))
    return np.where(np.isfinite(longer), longer, np.nan)


def smooth(values: np.ndarray, window: float, breaks: Sequence[int] = ()) -> np.ndarray:
    """Exponential moving average without a start-up bias; it begins anew at ``breaks``, and leaves NaN as it is.

    Args:
        window: steps; each value has the weight 2 / (window + 1).
    """
    if window <= 1:
        return values
    keep, anew = 1 - 2 / (window + 1), set(breaks)
    total = weight = 0.0
    found = []
    for i, value in enumerate(values.tolist()):
        if i in anew:
            total = weight = 0.0
        if value == value:
            total, weight = keep * total + value, keep * weight + 1
        found.append(total / weight if value == value else value)
    return np.array(found)


def _binned(values: np.ndarray, bins: int, *, most: bool = False) -> np.ndarray:
    """Means (or the greatest values) of equal stretches; NaN where a stretch has none."""
    if bins >= len(values):
        return values
    starts = np.arange(bins) * len(values) // bins
    there = ~np.isnan(values)
    counts = np.add.reduceat(there, starts, dtype=np.int64)
    if most:
        found = np.maximum.reduceat(np.where(there, values, -np.inf), starts)
    else:
        found = np.add.reduceat(np.where(there, values, 0.0), starts) / np.maximum(1, counts)
    return np.where(counts, found, np.nan)


def _at_columns(values: np.ndarray, columns: int, breaks: Sequence[int] = ()) -> np.ndarray:
    """A series stretched or thinned to so many columns: straight lines between its points, none across a break."""
    count = len(values)
    if count > columns:
        return _binned(values, columns)
    if count < 2:
        return np.append(values, np.full(columns - count, np.nan))
    place = np.linspace(0, count - 1, columns)
    left = np.minimum(place.astype(int), count - 2)
    share = place - left
    start, end = values[left], values[left + 1]
    found = start * (1 - share) + end * share
    # Up to a break, and where nothing follows, the last value holds; before the first one there is nothing.
    holds = (np.isin(left + 1, np.array(breaks, int)) & (share < 1)) | (np.isnan(end) & (share < 0.5))
    joined: np.ndarray = np.where(share == 1, end, np.where(holds, start, found))
    return joined


def value_range(traced: Sequence[Traced], plot: Plot) -> tuple[float, float]:
    """The lowest and highest value to show: all of the lines, and as much of the bands as leaves the lines their
    share of the height."""
    values = np.concatenate([series.line for series in traced]) if traced else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = (high - low) * _BAND_ROOM or math.inf
    least, most = low - room, high + room
    for series in traced:
        for edge, share in ((series.low, _QUANTILE), (series.high, 1 - _QUANTILE)):
            if edge is not None and not np.isnan(edge).all():
                reached = float(np.nanquantile(edge, share))
                low, high = min(low, max(reached, least)), max(high, min(reached, most))
    if plot.zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        room = abs(low) * 0.1 or 0.5
        return low - room, high + room
    room = (high - low) * 0.04
    return low - room, high + room


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` round numbers between two others, equally far apart."""
    if most < 1 or not high > low:
        return []
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20, 50):
        first, last = math.ceil(low / (step * factor) - 1e-9), math.floor(high / (step * factor) + 1e-9)
        if last - first + 1 <= most:
            return [n * step * factor + 0.0 for n in range(first, last + 1)]
    return []


def step_ticks(first: int, last: int, most: int) -> list[int]:
    """At most ``most`` round step numbers; between two steps there is none."""
    found = ticks(first, max(last, first + 1), most)
    return [round(tick) for tick in found if abs(tick - round(tick)) < 1e-9]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten between two positive numbers; round numbers if there are fewer than two."""
    powers = [10.0**n for n in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    if len(powers) < 2:
        return [tick for tick in ticks(low, high, most) if tick > 0]
    every = -(-len(powers) // max(1, most))
    return powers[::every]


def number(value: float, step: float | None = None) -> str:
    """A number for an axis: as many decimals as the distance of the ticks needs, and a real minus."""
    size = abs(value if step is None else step)
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    else:
        decimals = 0 if not size or size >= 100 else max(0, (0 if step else 2) - math.floor(math.log10(size) + 1e-9))
        text = f"{value:.{min(decimals, 6)}f}"
        text = f"{value:,.0f}" if decimals == 0 else text
    return text.replace("-", "−")
