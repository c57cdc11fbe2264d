"""The chart: its arithmetic checked by hand, text frames and the SVG against snapshots."""

import functools
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tspin_mlx.view.chart import ChartStyle, Ink, Mark, Plot, Series, advantage_plot, advantage_svg, draw
from tspin_mlx.view.chart.plot import format_number, log_ticks, smooth, ticks, trace
from tspin_mlx.view.run_view import RunView, reduce

SIZES = [(120, 30), (80, 20), (48, 14)]


def run_view(iterations=3, steps=20, tokens_per_s=50.0):
    """A run whose advantages are made of waves, not of chance."""
    events = []
    for iteration in range(iterations):
        for step in range(1, steps + 1):
            number = iteration * steps + step
            current = 4 * iteration + 8 * step / steps + math.sin(number)
            spread = 2 + math.cos(number / 3)
            event = {
                "time": float(number), "kind": "step", "phase": f"iterations/{iteration:03}/adapter",
                "iteration": iteration, "step": step, "steps": steps, "loss": 2.0 / number,
                "tokens_per_s": tokens_per_s, "elapsed_s": 0.5, "advantage/current": current,
                "advantage/current_min": current - spread, "advantage/current_max": current + spread,
            }  # fmt: skip
            if iteration:
                historical = -1 + number / 20 + math.sin(number / 2) / 2
                event |= {"advantage/historical": historical, "advantage/historical_min": historical - 1,
                          "advantage/historical_max": historical + 1}  # fmt: skip
            events.append(event)
    return functools.reduce(reduce, events, RunView(name="waves"))


def plain(rows):
    return "\n".join("".join(text for text, _ in row).rstrip() for row in rows)


def widths(rows):
    return {sum(len(text) for text, _ in row) for row in rows}


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("colours", [True, False], ids=["colour", "no-colour"])
def test_frames(width, height, colours, same_as_kept):
    rows = draw(advantage_plot(run_view()), width, height, ChartStyle(bands=colours, dashed=not colours))
    assert len(rows) == height and widths(rows) == {width}
    kind = "colour" if colours else "no-colour"
    same_as_kept(f"chart-{width}x{height}-{kind}.txt", plain(rows) + "\n")


@given(width=st.integers(1, 60), height=st.integers(1, 20), count=st.integers(0, 200), dashed=st.booleans())
def test_any_size_is_filled_exactly(width, height, count, dashed):
    values = np.sin(np.arange(count) / 5)
    marks = (Mark(0, "iteration 0"), Mark(count // 2, "iteration 1"))
    plot = Plot((Series("a", values, values - 1, values + 1), Series("b", -values)), marks, zero=True)
    rows = draw(plot, width, height, ChartStyle(dashed=dashed, bands=not dashed))
    assert len(rows) == height and widths(rows) == {width}


@given(arrays(float, st.integers(0, 300), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)))
def test_any_values_can_be_drawn(values):
    rows = draw(Plot((Series("a", values, values, values),), log=True), 30, 8)
    assert widths(rows) == {30}


@pytest.mark.parametrize(("count", "steps"), [(2, "2"), (3, "2 3"), (6, "2 3 4 5 6")])
def test_few_steps_have_each_number_once(count, steps):
    foot = draw(Plot((Series("a", np.arange(float(count))),)), 90, 20)[-1]
    assert "".join(text for text, _ in foot).split() == ["step", *steps.split()]


def test_lines_lie_over_bands_and_marks_give_way_to_lines():
    flat = np.zeros(100)
    plot = Plot((Series("a", flat, flat - 1, flat + 1),), (Mark(0, "x"), Mark(50, "y")))
    rows = draw(plot, 50, 9, ChartStyle(legend=False, axis=False, marks=False))
    inks = {ink for row in rows for _, ink in row}
    assert Ink("line0", "band0") in inks and Ink("mark", "band0") in inks
    middle = "".join(text for text, _ in rows[4])
    assert "│" not in middle and middle.count("⠒") + middle.count("⠤") >= 40
    assert sum("│" in "".join(text for text, _ in row) for row in rows) == 8


def test_where_bands_overlap_both_are_visible():
    a, b = np.full(10, 1.0), np.full(10, 0.0)
    plot = Plot((Series("a", a, a - 0.6, a + 0.6), Series("b", b, b - 0.6, b + 0.6)))
    rows = draw(plot, 20, 12, ChartStyle(legend=False))
    backgrounds = [ink.background for row in rows for text, ink in row if ink.background]
    assert {"band0", "band1", "bands"} == set(backgrounds)


def test_without_colours_the_second_line_has_gaps():
    rising = np.linspace(0, 1, 200)
    plot = Plot((Series("a", rising), Series("b", rising + 1)))
    dashed = draw(plot, 60, 12, ChartStyle(bands=False, dashed=True))
    solid = draw(plot, 60, 12, ChartStyle(bands=False))

    def cells(rows, ink):
        return sum(len(text) for row in rows[1:] for text, row_ink in row if row_ink.foreground == ink)

    assert cells(dashed, "line0") >= cells(solid, "line0")
    assert cells(dashed, "line1") < 0.8 * cells(solid, "line1")


def test_a_wild_band_leaves_the_lines_their_room():
    rising = np.linspace(0, 1, 50)
    rows = draw(Plot((Series("a", rising, rising - 100, rising + 100),)), 40, 22, ChartStyle(legend=False, axis=False))
    heights = [i for i, row in enumerate(rows) if any(ink.foreground == "line0" for _, ink in row)]
    assert max(heights) - min(heights) >= 8


def test_a_series_that_begins_later_begins_at_its_mark():
    values = np.array([np.nan, np.nan, 1.0, 1.0])
    (traced,), _ = trace(Plot((Series("a", values),), (Mark(0, "x"), Mark(2, "y"))), 7)
    assert np.isnan(traced.line[:4]).all() and not np.isnan(traced.line[4:]).any()
    ended = trace(Plot((Series("a", np.array([1.0, 1.0, np.nan, np.nan])),)), 7)[0][0].line
    assert not np.isnan(ended[:3]).any() and np.isnan(ended[4:]).all()


def test_a_shorter_series_ends_earlier():
    short, long = trace(Plot((Series("a", np.ones(5)), Series("b", np.ones(9)))), 17)[0]
    assert not np.isnan(short.line[:9]).any() and np.isnan(short.line[10:]).all()
    assert not np.isnan(long.line).any()


def test_an_empty_chart_says_so():
    assert "no steps yet" in plain(draw(advantage_plot(RunView()), 40, 10))


def test_a_chart_without_curves_has_a_legend():
    assert "".join(text for text, _ in draw(Plot((), unit="nats"), 20, 8)[0]) == f"{'nats':<20}"


def test_smoothing_by_hand():
    # Weight 1/2 each step back: 1, (1/2 + 2) / (3/2), (1/4 + 1 + 4) / (7/4).
    assert smooth(np.array([1.0, 2.0, 4.0]), 3) == pytest.approx([1, 5 / 3, 3])
    assert smooth(np.array([1.0, 2.0, 4.0]), 3, breaks=[2]) == pytest.approx([1, 5 / 3, 4])
    gap = smooth(np.array([1.0, np.nan, 2.0]), 3)
    assert np.isnan(gap[1]) and gap[2] == pytest.approx(5 / 3)
    assert smooth(np.array([5.0, 1.0]), 1).tolist() == [5, 1]


def test_long_series_keep_their_extremes_and_their_level():
    values = np.ones(10_000)
    spike = values.copy()
    spike[1234] = 99
    (traced,), _ = trace(Plot((Series("a", values, values, spike),)), 100)
    assert traced.line == pytest.approx(np.ones(100))
    assert traced.high is not None and traced.high.max() == 99 and (traced.high > 1).sum() == 1


def test_a_line_does_not_slope_across_a_mark():
    (traced,), _ = trace(Plot((Series("a", np.array([0.0, 0.0, 9.0, 9.0])),), (Mark(2, "x"),), window=1), 40)
    assert set(np.round(traced.line, 6)) == {0.0, 9.0}
    (traced,), _ = trace(Plot((Series("a", np.array([0.0, 0.0, 9.0, 9.0])),), window=1), 40)
    assert len(set(np.round(traced.line, 6))) > 5


@pytest.mark.parametrize(
    ("low", "high", "most", "wanted"),
    [
        (0, 10, 5, [0, 5, 10]),
        (-3.2, 14.1, 6, [0, 5, 10]),
        (-0.031, 0.029, 4, [-0.02, 0, 0.02]),
        (7, 7, 4, []),
    ],
)
def test_ticks(low, high, most, wanted):
    assert ticks(low, high, most) == pytest.approx(wanted)


def test_log_ticks():
    assert log_ticks(0.002, 30, 9) == pytest.approx([0.01, 0.1, 1, 10])
    assert log_ticks(2, 8, 3) == [5]  # less than a power of ten apart


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, 12))
def test_ticks_are_few_equidistant_and_inside(low, span, most):
    values = ticks(low, low + span, most)
    assert len(values) <= most
    assert all(low - 1e-6 * span - 1e-6 <= tick <= low + span + 1e-6 * span + 1e-6 for tick in values)
    if len(values) > 2:
        assert np.diff(values) == pytest.approx(np.full(len(values) - 1, values[1] - values[0]), rel=1e-4)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [(0, 5, "0"), (-5, 5, "−5"), (0.5, 0.5, "0.5"), (12000, 1000, "12,000"), (1e-5, None, "1e−5"),
     (0.3421, None, "0.342"), (12.345, None, "12.3"), (1e6, 1, "1e6")],
)  # fmt: skip
def test_numbers(value, step, text):
    assert format_number(value, step) == text


def test_the_svg_is_complete_accessible_and_self_contained(same_as_kept):
    svg = advantage_svg(run_view(), title="waves <&> \x1b[2J")
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("viewBox") == "0 0 960 420" and root.get("role") == "img"
    assert root.find(f"{space}title").text == "waves <&> [2J"
    description = root.find(f"{space}desc").text
    assert "60 optimiser steps, 3 iterations" in description and "Current advantage:" in description
    assert len(root.findall(f"{space}polyline")) == 2 and len(root.findall(f"{space}polygon")) == 2
    texts = ["".join(element.itertext()) for element in root.iter(f"{space}text")]
    assert {"iteration 0", "iteration 1", "iteration 2", "optimiser step"} <= set(texts)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme: dark" in svg
    same_as_kept("advantages.svg", svg)


@pytest.mark.parametrize("size", [(960, 420), (320, 200)])
def test_nothing_is_drawn_outside_the_svg_and_the_legend_covers_no_curve(size):
    root = ET.fromstring(advantage_svg(run_view(), title="t", width=size[0], height=size[1]))
    for element in root.iter():
        for pair in element.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= size[0] and 88 <= y <= size[1]


def test_a_run_without_steps_has_an_svg_too():
    assert "No steps of self-play yet" in advantage_svg(RunView(), title="empty")


def test_supervised_iterations_show_how_likely_the_experts_answers_become():
    def step(number):
        return {
            "time": 1.0, "kind": "step", "phase": "iterations/000/adapter", "iteration": 0, "step": number, "steps": 3,
            "loss": 1.0, "nll": 1.0 / number, "tokens_per_s": 1.0, "elapsed_s": 0.5,
        }  # fmt: skip

    plot = advantage_plot(functools.reduce(reduce, map(step, (1, 2, 3)), RunView()))
    (series,) = plot.series
    assert (plot.unit, plot.zero) == ("nats per token", False)
    assert series.values.tolist() == [1.0, 0.5, 1.0 / 3]


def test_until_self_play_begins_the_warm_up_is_shown():
    def step(number, iteration, **metrics):
        return {
            "time": 1.0, "kind": "step", "phase": f"{iteration}/adapter", "iteration": iteration, "step": number,
            "steps": 3, "loss": 1.0, "nll": 1.0 / number, "tokens_per_s": 1.0, "elapsed_s": 0.5, **metrics,
        }  # fmt: skip

    view = functools.reduce(reduce, [step(1, None), step(2, None)], RunView())
    plot = advantage_plot(view)
    (series,) = plot.series
    assert (series.name, plot.unit, plot.marks) == ("warm-up: NLL of the expert's answers", "nats per token", ())
    assert series.values.tolist() == [1.0, 0.5]
    assert "━━ warm-up: NLL of the expert's answers 0.50" in plain(draw(plot, 48, 14))
    assert "Warm-up: NLL of the expert" in advantage_svg(view, title="warm")
    begun = advantage_plot(reduce(view, step(1, 0, **{"advantage/current": 2.0})))
    assert [series.name for series in begun.series] == ["current", "historical"]
    assert begun.series[0].values.tolist() == [2.0] and begun.marks == (Mark(0, "iteration 0"),)
