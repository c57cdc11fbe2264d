"""The best policy by a held-out measure."""

import pytest

from tspin_mlx.recipe.schema import MetricName
from tspin_mlx.runs.policies import better_is_lower, choose


@pytest.mark.parametrize(
    ("values", "lower", "best"),
    [
        ({"initial": 2.0, "iterations/000": 1.0, "iterations/001": 1.5}, True, "iterations/000"),
        ({"initial": 0.2, "iterations/000": 0.1, "iterations/001": 0.5}, False, "iterations/001"),
        ({"initial": 1.0, "iterations/000": 1.0}, True, "initial"),
        ({"initial": 0.1, "iterations/000": 0.9, "iterations/001": 0.9}, False, "iterations/000"),
        ({"initial": -3.0, "iterations/000": -1.0}, False, "iterations/000"),
        ({"initial": 0.5}, True, "initial"),
    ],
)
def test_the_best_is_chosen_and_among_equals_the_earliest(values, lower, best):
    assert choose(values, lower=lower) == best


def test_only_the_likelihood_loss_is_better_when_lower():
    assert better_is_lower("nll")
    assert not any(map(better_is_lower, MetricName.__args__))
