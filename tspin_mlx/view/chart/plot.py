"""The plot model and its arithmetic: downsampling, smoothing, value range and axis ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...base.text import signed

_POINTS_PER_COLUMN = 4  # a long series is downsampled to this before it is smoothed
_DEFAULT_WINDOW = 40  # the default smoothing window is this fraction of the series
_QUANTILE = 0.02  # this share of a band's edge may lie outside the chart
_BAND_ROOM = 0.6  # bands may extend the range of the lines by this much, up and down


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: shown in the legend.
        values: one per step, shape (n,); values that are not finite are not drawn.
        low, high: the edges of the band, shape (n,); None for no band.
    """

    name: str
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True)
class Mark:
    """A vertical line at a step where something began: ``at`` is the index of the step, ``label`` its name."""

    at: int
    label: str


@dataclass(frozen=True)
class Plot:
    """A chart, independent of its size.

    Attributes:
        series: in the order of the legend; the first is drawn on top.
        marks: vertical lines; smoothing restarts at each of them.
        first: number of the first step.
        unit: of the values.
        window: smoothing window in steps, 1 for none; None takes a fraction of the series.
        zero: always include the value 0, with a line.
        log: use a logarithmic scale if all values are positive.
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
        """The length of the longest series."""
        return max((len(series.values) for series in self.series), default=0)

    @property
    def effective_window(self) -> int:
        """The smoothing window, with the default filled in."""
        return self.window if self.window is not None else max(1, self.steps // _DEFAULT_WINDOW)

    def format_value(self, value: float) -> str:
        """Format a value for the legend; with a plus sign only if the plot has a zero line."""
        return signed(value) if self.zero else signed(value).removeprefix("+")

    @property
    def notes(self) -> list[str]:
        """Notes for the legend, next to the names of the series, the most important first."""
        notes = [self.unit] if self.unit else []
        if self.effective_window > 1:
            notes.append(f"mean of {self.effective_window} steps")
        if any(series.low is not None for series in self.series):
            notes.append("band: least to greatest of a batch")
        return notes


def downsampled(plot: Plot, steps: int) -> Plot:
    """Return the plot with every n-th step, about ``steps`` of them; enough to estimate its range."""
    every = max(1, plot.steps // steps)

    def every_nth(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[::every]

    series = (Series(s.name, s.values[::every], every_nth(s.low), every_nth(s.high)) for s in plot.series)
    return replace(plot, series=tuple(series), marks=())


@dataclass(frozen=True)
class Traced:
    """A series at the columns of a chart; arrays of shape (columns,), NaN where there is no value."""

    name: str
    line: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


@dataclass(frozen=True)
class Scale:
    """The value axis: maps values to heights.

    Attributes:
        low, high: the values at the bottom and at the top; their base-10 logarithms if ``log``.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    log: bool

    def height(self, values: np.ndarray | float) -> np.ndarray:
        """Map values to heights, 0 at the bottom and 1 at the top; NaN for values that the scale cannot show."""
        values = np.asarray(values, float)
        if self.log:
            values = np.log10(np.where(values > 0, values, np.nan))
        return np.asarray((values - self.low) / (self.high - self.low))

    def ticks(self, limit: int) -> list[tuple[float, str]]:
        """Return at most ``limit`` ticks as height and label."""
        if self.log:
            values = log_ticks(10**self.low, 10**self.high, limit)
            return [(float(self.height(value)), format_number(value)) for value in values]
        values = ticks(self.low, self.high, limit)
        step = values[1] - values[0] if len(values) > 1 else abs(values[0]) if values else None
        return [(float(self.height(value)), format_number(value, step or 1.0)) for value in values]


def trace(plot: Plot, columns: int) -> tuple[tuple[Traced, ...], Scale]:
    """Resample all series to equidistant columns, means for lines and extremes for bands; return them and the scale."""
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
    binned = _binned(_finite(series.values, count), kept)
    breaks = [mark.at * kept // count for mark in plot.marks] if count else []
    line = smooth(binned, plot.effective_window * kept / max(1, count), breaks)
    if series.low is None or series.high is None:
        return Traced(series.name, _at_columns(line, columns, breaks), None, None)
    bins = min(count, columns)
    low = -_binned(-_finite(series.low, count), bins, maxima=True)
    high = _binned(_finite(series.high, count), bins, maxima=True)
    band_breaks = [mark.at * bins // count for mark in plot.marks] if count else []
    low, high = (_at_columns(edge, columns, band_breaks) for edge in (low, high))
    return Traced(series.name, _at_columns(line, columns, breaks), low, high)


def _finite(values: np.ndarray, count: int) -> np.ndarray:
    """Pad the values to ``count`` steps, with NaN for everything that is not finite."""
    padded = values if len(values) == count else np.append(values, np.full(count - len(values), np.nan))
    return np.where(np.isfinite(padded), padded, np.nan)


def smooth(values: np.ndarray, window: float, breaks: Sequence[int] = ()) -> np.ndarray:
    """Smooth with an exponential moving average without start-up bias; it restarts at ``breaks`` and keeps NaN.

    Args:
        window: in steps; each value has the weight 2 / (window + 1).
    """
    if window <= 1:
        return values
    decay, restarts = 1 - 2 / (window + 1), set(breaks)
    total = weight = 0.0
    averages = []
    for i, value in enumerate(values.tolist()):
        if i in restarts:
            total = weight = 0.0
        if value == value:
            total, weight = decay * total + value, decay * weight + 1
        averages.append(total / weight if value == value else value)
    return np.array(averages)


def _binned(values: np.ndarray, bins: int, *, maxima: bool = False) -> np.ndarray:
    """Return the means (or maxima) of equal bins, without NaN; NaN where a bin has nothing else."""
    if bins >= len(values):
        return values
    starts = np.arange(bins) * len(values) // bins
    known = ~np.isnan(values)
    counts = np.add.reduceat(known, starts, dtype=np.int64)
    if maxima:
        binned = np.maximum.reduceat(np.where(known, values, -np.inf), starts)
    else:
        binned = np.add.reduceat(np.where(known, values, 0.0), starts) / np.maximum(1, counts)
    return np.where(counts, binned, np.nan)


def _at_columns(values: np.ndarray, columns: int, breaks: Sequence[int] = ()) -> np.ndarray:
    """Resample a series to ``columns`` points: linear interpolation, but not across a break."""
    count = len(values)
    if count > columns:
        return _binned(values, columns)
    if count < 2:
        return np.append(values, np.full(columns - count, np.nan))
    place = np.linspace(0, count - 1, columns)
    left = np.minimum(place.astype(int), count - 2)
    share = place - left
    start, end = values[left], values[left + 1]
    interpolated = start * (1 - share) + end * share
    # Before a break, and where no value follows, the last value holds; before the first value there is nothing.
    holds = (np.isin(left + 1, np.array(breaks, int)) & (share < 1)) | (np.isnan(end) & (share < 0.5))
    return np.asarray(np.where(share == 1, end, np.where(holds, start, interpolated)))


def value_range(traced: Sequence[Traced], plot: Plot) -> tuple[float, float]:
    """Return the lowest and highest value to show: all of the lines, and as much of the bands as leaves the lines
    enough height."""
    values = np.concatenate([series.line for series in traced]) if traced else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = (high - low) * _BAND_ROOM or math.inf
    lower_limit, upper_limit = low - room, high + room
    for series in traced:
        for edge, share in ((series.low, _QUANTILE), (series.high, 1 - _QUANTILE)):
            if edge is not None and not np.isnan(edge).all():
                reached = float(np.nanquantile(edge, share))
                low, high = min(low, max(reached, lower_limit)), max(high, min(reached, upper_limit))
    if plot.zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        room = abs(low) * 0.1 or 0.5
        return low - room, high + room
    room = (high - low) * 0.04
    return low - room, high + room


def ticks(low: float, high: float, limit: int) -> list[float]:
    """Return at most ``limit`` equidistant round numbers between ``low`` and ``high``."""
    if limit < 1 or not high > low:
        return []
    step = 10.0 ** math.floor(math.log10((high - low) / limit))
    for factor in (1, 2, 5, 10, 20, 50):
        first, last = math.ceil(low / (step * factor) - 1e-9), math.floor(high / (step * factor) + 1e-9)
        if last - first + 1 <= limit:
            return [n * step * factor + 0.0 for n in range(first, last + 1)]
    return []


def step_ticks(first: int, last: int, limit: int) -> list[int]:
    """Return at most ``limit`` round step numbers; whole numbers only."""
    values = ticks(first, max(last, first + 1), limit)
    return [round(value) for value in values if abs(value - round(value)) < 1e-9]


def log_ticks(low: float, high: float, limit: int) -> list[float]:
    """Return the powers of ten between two positive numbers; round numbers if there are fewer than two powers."""
    powers = [10.0**n for n in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    if len(powers) < 2:
        return [value for value in ticks(low, high, limit) if value > 0]
    every = -(-len(powers) // max(1, limit))
    return powers[::every]


def format_number(value: float, step: float | None = None) -> str:
    """Format a number for an axis: a typographic minus, and the decimals that ticks ``step`` apart need."""
    size = abs(value if step is None else step)
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    else:
        decimals = 0 if not size or size >= 100 else max(0, (0 if step else 2) - math.floor(math.log10(size) + 1e-9))
        text = f"{value:.{min(decimals, 6)}f}"
        text = f"{value:,.0f}" if decimals == 0 else text
    return text.replace("-", "−")
