"""How much of the contrast has a direction: the part that sets of samples share, told apart from the rest."""

import numpy as np
import pytest
from mlx.utils import tree_flatten

from experiments.attribution import Push, gradient
from experiments.direction import gradient_of, measure, parts
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.schema import LoraSection, ModelSection
from tspin_mlx.runs.run import Run


def test_the_common_part_of_sets_is_told_from_noise():
    sets = np.array([[1, 2, 0, 0], [1, 0, 2, 0], [1, 0, 0, 2]])  # noise at right angles to each other
    found = parts(sets, np.array([2, 0, 0, 0]))
    assert found == pytest.approx(
        {"direction": 0.5, "squared": 0.25, "squared_error": 0, "along": 0.5, "along_error": 0, "noise": 1}, abs=1e-12
    )


def test_noise_alone_has_no_direction_on_average():
    random = np.random.default_rng(0)
    squares = []
    for _ in range(400):
        found = parts(random.normal(size=(4, 20)), np.ones(20))
        squares.append(found["squared"])
        assert found["noise"] == pytest.approx(1, abs=0.6)
    assert abs(np.mean(squares)) < 0.02  # the length of a plain mean of four sets would have 1/4


def test_two_sets_are_enough():
    found = parts(np.array([[3.0, 4.0], [3.0, -4.0]]), np.array([1.0, 0.0]))
    assert (found["direction"], found["squared"], found["noise"] ** 2) == (0, 9 - 16, pytest.approx(25 + 7))


def test_the_gradient_of_a_set_is_the_mean_over_its_answers(tiny_model):
    policy = load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=4), 0)
    policy.model.load_weights([(name, value + 0.05) for name, value in policy.adapter().items()], strict=False)
    answers = [Response((10, 20, 21, 1), ""), Response((30, 31), "", "length")]
    prompts = [Prompt("a", (5, 6, 7), "", answers[0], ""), Prompt("b", (8, 9), "", answers[0], "")]
    found = gradient_of(policy, prompts, answers, [1.0, 0.5])
    pushes = [
        Push(prompt.tokens, answer.tokens, (weight / 2,) * len(answer.tokens))
        for prompt, answer, weight in zip(prompts, answers, [1.0, 0.5], strict=True)
    ]
    expected = np.concatenate([np.array(value).ravel() for _, value in tree_flatten(gradient(policy, pushes))])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_a_run_is_measured_fresh_and_aged(small_run):
    found = measure(Run(small_run), 1, prompts=4, sets=3)["parts"]
    assert {(age, how) for age, rows in found.items() for how in rows} == {
        (age, how) for age in ("fresh", "aged") for how in ("even", "weighed")
    }
    for rows in found.values():
        assert 0 < rows["weighed"]["noise"] < rows["even"]["noise"]
    assert found["fresh"]["even"] != found["aged"]["even"]
