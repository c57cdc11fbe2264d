"""The learning rate against rates worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.training.schedule import learning_rate_at


def rates(steps, warmup_steps, schedule, peak=12.0):
    return [learning_rate_at(step, steps, peak, warmup_steps, schedule) for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("steps", "warmup_steps", "schedule", "expected"),
    [
        (4, 0, "linear", [12, 9, 6, 3]),
        (5, 1, "linear", [6, 12, 9, 6, 3]),
        (6, 2, "linear", [4, 8, 12, 9, 6, 3]),
        (4, 0, "constant", [12, 12, 12, 12]),
        (4, 2, "constant", [4, 8, 12, 12]),
        # half of 1 + cos of 0, 60 and 120 degrees
        (3, 0, "cosine", [12, 9, 3]),
        (5, 2, "cosine", [4, 8, 12, 9, 3]),
        (1, 0, "linear", [12]),
        (1, 0, "cosine", [12]),
        # warm-up in every step: the peak would be the step after the last
        (3, 3, "linear", [3, 6, 9]),
        (3, 3, "constant", [3, 6, 9]),
    ],
)
def test_rates_are_the_worked_ones(steps, warmup_steps, schedule, expected):
    assert rates(steps, warmup_steps, schedule) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 3])
def test_the_step_after_the_last_would_have_rate_0(schedule, warmup_steps):
    assert learning_rate_at(11, 10, 1.0, warmup_steps, schedule) == pytest.approx(0, abs=1e-12)


@given(
    steps=st.integers(1, 200),
    share=st.floats(0, 1),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
)
def test_every_step_has_a_rate_that_rises_to_the_peak_and_then_never_rises(steps, share, schedule):
    warmup_steps = round(share * steps)
    found = rates(steps, warmup_steps, schedule, peak=1.0)
    assert all(0 < rate <= 1 for rate in found)
    rising, falling = found[: warmup_steps + 1], found[warmup_steps:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert warmup_steps == steps or found[warmup_steps] == 1
