"""The metrics of a step, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.method.step_metrics import significant, step_metrics

# Two triplets; rows are y, y' and y0.
LOGPS = np.array([[-10.0, -30.0], [-20.0, -24.0], [-22.0, -30.0]])
ENTROPIES = np.array([[5.0, 10.0], [2.0, 3.0], [4.0, 6.0]])
LENGTHS = np.array([[5.0, 10.0], [4.0, 6.0], [2.0, 3.0]])

SUPERVISED = {
    "logps/chosen": -20,
    "length/chosen": 7.5,
    "entropy": 15 / 15,
    "nll": 40 / 15,
}
# y over y': 10 and -6, and per token -2 + 5 = 3 and -3 + 4 = 1
CONTRAST = {
    **SUPERVISED,
    "logps/rejected": -22,
    "length/rejected": 5,
    "entropy": 20 / 25,
    "rewards/chosen": -10,
    "rewards/rejected": -11,
    "rewards/margins": 1,
    "rewards/accuracies": 0.5,
    "advantage/current": 2,
    "advantage/current_min": -6,
    "advantage/current_max": 10,
    "advantage/current_per_token": 2,
}
# y' over y0: 2 and 6, and per token -5 + 11 = 6 and -4 + 10 = 6
HISTORICAL = {
    **CONTRAST,
    "logps/initial": -26,
    "length/initial": 2.5,
    "entropy": 30 / 30,
    "advantage/historical": 4,
    "advantage/historical_min": 2,
    "advantage/historical_max": 6,
    "advantage/historical_per_token": 6,
}


@pytest.mark.parametrize("expected", [SUPERVISED, CONTRAST, HISTORICAL], ids=["y", "y, y'", "y, y', y0"])
def test_measures_are_the_worked_ones_and_no_others(expected):
    responses = [SUPERVISED, CONTRAST, HISTORICAL].index(expected) + 1
    found = step_metrics(
        LOGPS[:responses],
        ENTROPIES[:responses],
        LENGTHS[:responses],
        alpha=0.5,
        reference=np.zeros_like(LOGPS[:responses]),
    )
    assert found == pytest.approx(expected)


def test_alpha_scales_rewards_and_nothing_else():
    small, large = (step_metrics(LOGPS, ENTROPIES, LENGTHS, alpha, 0 * LOGPS) for alpha in (0.5, 1.0))
    changed = {name for name in small if small[name] != large[name]}
    assert changed == {"rewards/chosen", "rewards/rejected", "rewards/margins"}


def test_a_tie_is_no_win():
    logps, ones = np.array([[-3.0, -3.0], [-3.0, -4.0]]), np.ones((2, 2))
    assert step_metrics(logps, ones, ones, 1.0, 0 * logps)["rewards/accuracies"] == 0.5


def test_values_are_plain_numbers():
    found = step_metrics(*(a.astype(np.float32) for a in (LOGPS, ENTROPIES, LENGTHS)), alpha=1.0, reference=0 * LOGPS)
    assert {type(value) for value in found.values()} == {float}


def test_rewards_are_counted_from_the_reference_and_advantages_are_not():
    reference = np.array([[-12.0, -30.0], [-21.0, -20.0], [-22.0, -30.0]])
    found = step_metrics(LOGPS, ENTROPIES, LENGTHS, 0.5, reference)
    # y gained 2 and 0, y' 1 and -4: margins .5 and 2
    expected = {"rewards/chosen": 0.5, "rewards/rejected": -0.75, "rewards/margins": 1.25, "rewards/accuracies": 1}
    assert found == pytest.approx({**HISTORICAL, **expected})


@given(st.floats(width=32, allow_nan=False))
def test_a_metric_is_kept_as_the_same_float32(value):
    kept = significant(value)
    assert np.float32(kept) == np.float32(value)
    assert len(repr(kept).strip("-").replace(".", "").split("e")[0].strip("0")) <= 9


def test_whole_numbers_are_kept_whole():
    assert significant(1_539_993_784_123) == 1_539_993_784_123
