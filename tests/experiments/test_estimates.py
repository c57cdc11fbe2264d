"""Charts of estimates with error bars, as SVG."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from experiments.estimates import MOST_LINES, Estimates, estimates_svg


def estimates(count=2):
    """Lines that rise by 1 from their number on; the second point has no bar, and the last line no third point."""
    found = [
        Estimates(f"arm <{i}>", np.array([i, i + 1.0, i + 2.0]), np.array([0.5, np.nan, 1.0])) for i in range(count)
    ]
    found[-1].values[2] = np.nan
    return found


def test_the_picture_of_estimates(same_as_kept):
    picture = estimates_svg(estimates(), ["start", "1", "2"], title="a & b", note="score; bars: error over 3 seeds")
    root = ET.fromstring(picture)
    space = "{http://www.w3.org/2000/svg}"
    texts = ["".join(element.itertext()) for element in root.iter(f"{space}text")]
    assert {"a & b", "arm <0>", "arm <1>", "start", "2", "score; bars: error over 3 seeds"} <= set(texts)
    assert "arm <1>: 1.000 ± 0.500 at start, 2.000 at 1." in root.find(f"{space}desc").text
    lines = {
        element.get("class"): [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]
        for element in root.iter(f"{space}polyline")
    }
    first, second = lines["line c0"], lines["line c1"]
    assert len(first) == 3 and len(second) == 2
    assert first[0][1] - first[1][1] == pytest.approx(first[1][1] - first[2][1], abs=0.11)  # equal steps upward
    assert (
        first[1][1] == pytest.approx(second[0][1], abs=0.11) and first[0][0] != second[0][0]
    )  # 1 is 1, beside each other
    bars = [e.get("d") for e in root.iter(f"{space}path") if e.get("class") == "bar c0"]
    low, high = map(float, re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", bars[0]).groups())
    assert len(bars) == 2 and low - high == pytest.approx(first[0][1] - first[1][1], abs=0.11)  # ± 0.5 is 1 high
    same_as_kept("estimates.svg", picture)


@pytest.mark.parametrize("count", [1, MOST_LINES])
@pytest.mark.parametrize("size", [(960, 420), (320, 260)])
def test_estimates_stay_inside_with_all_of_their_bars(count, size):
    lines = [Estimates(line.name, line.values, np.full(3, 40.0)) for line in estimates(count)]
    root = ET.fromstring(estimates_svg(lines, ["a", "b", "c"], title="t", note="n", width=size[0], height=size[1]))
    bars = [e.get("d") for e in root.iter() if e.get("class", "").startswith("bar")]
    heights = {tuple(map(float, re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", bar).groups())) for bar in bars}
    assert len(bars) == 3 * count - 1
    assert all(56 < high < low < size[1] - 46 for low, high in heights)
    lengths = [low - high for low, high in heights]
    assert max(lengths) - min(lengths) < 0.3  # none is cut off
    for element in root.iter():
        for pair in element.get("points", "").split():
            assert 0 <= float(pair.split(",")[0]) <= size[0]


def test_one_value_alone_has_a_picture_too():
    line = Estimates("a", np.array([np.nan, 0.5]), np.array([np.nan, np.nan]))
    assert "0.500 at x" in estimates_svg([line], ["w", "x"], title="t", note="n")
