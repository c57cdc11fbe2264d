"""The collapse guard: what has become worse than the recipe allows, in words."""

from dataclasses import replace

import pytest

from tspin_mlx.evaluation.guard import Health, nothing_left, saturated, signs_of_collapse
from tspin_mlx.recipe.schema import GuardSection

SECTION = GuardSection()
INITIAL = Health(stop_rate=1.0, nll=1.25, truncated=0.25)


def signs(section=SECTION, initial=INITIAL, **now):
    return signs_of_collapse(initial, replace(initial, **now), section)


def test_a_policy_that_stays_as_it_was_shows_no_sign():
    assert signs() == []


def test_a_policy_that_becomes_better_shows_no_sign():
    worst = Health(stop_rate=0.0, nll=9.0, truncated=1.0)
    assert signs_of_collapse(worst, INITIAL, SECTION) == []


@pytest.mark.parametrize(
    ("now", "sign"),
    [
        ({"stop_rate": 0.75}, None),
        ({"stop_rate": 0.74}, "74% of held-out answers end by themselves, 100% before self-play"),
        ({"nll": 1.34}, None),
        ({"nll": 1.36}, "the expert's answers have NLL 1.36 per token, 1.25 before self-play"),
        ({"truncated": 0.5}, None),
        ({"truncated": 0.52}, "52% of sampled answers were cut off, 25% before self-play"),
    ],
)
def test_a_sign_is_what_is_worse_by_more_than_the_recipe_allows(now, sign):
    assert signs(**now) == ([] if sign is None else [sign])


@pytest.mark.parametrize(
    ("settings", "now"),
    [
        ({"stop_rate_drop": 0.5}, {"stop_rate": 0.5}),
        ({"nll_rise": 2.0}, {"nll": 3.25}),
        ({"truncated_rise": 0.75}, {"truncated": 1.0}),
        ({"stop_rate_drop": 1, "nll_rise": 99, "truncated_rise": 1}, {"stop_rate": 0, "nll": 99, "truncated": 1}),
    ],
)
def test_the_recipe_says_how_much_is_allowed(settings, now):
    assert signs(**now) != []
    assert signs(GuardSection(**settings), **now) == []


def test_with_nothing_allowed_the_smallest_loss_is_a_sign():
    strict = GuardSection(stop_rate_drop=0, truncated_rise=0)
    assert len(signs(strict, stop_rate=0.99)) == 1
    assert len(signs(strict, truncated=0.26)) == 1
    assert signs(strict) == []


@pytest.mark.parametrize("nll", [float("nan"), float("inf")])
def test_a_likelihood_that_is_not_a_number_is_a_sign(nll):
    assert signs(nll=nll) == [f"the expert's answers have NLL {nll} per token, 1.25 before self-play"]


def test_a_policy_that_was_not_a_number_at_first_is_never_taken_for_healthy():
    assert len(signs(initial=replace(INITIAL, nll=float("nan")), nll=1.0)) == 1
    assert len(signs(initial=replace(INITIAL, nll=float("inf")))) == 1


def test_all_signs_are_named():
    assert signs(stop_rate=0.0, nll=3.0, truncated=1.0) == [
        "0% of held-out answers end by themselves, 100% before self-play",
        "the expert's answers have NLL 3.00 per token, 1.25 before self-play",
        "100% of sampled answers were cut off, 25% before self-play",
    ]


def test_the_guard_itself_does_not_stop_a_run():
    assert signs(GuardSection(stop=True), nll=3.0) == signs(nll=3.0)
    assert signs(GuardSection(stop=True)) == []


@pytest.mark.parametrize(("margin", "warning"), [(-9.9, None), (-23.4, "-23 on average")])
def test_a_saturated_contrast_is_judged_by_what_is_inside_the_logistic(margin, warning):
    message = saturated({"rewards/margins": margin})
    assert message is None if warning is None else warning in message


def test_supervised_training_has_no_contrast_that_could_be_saturated():
    assert saturated({"nll": 3.0}) is None


@pytest.mark.parametrize(("identical", "told"), [(0.8, None), (0.9965, "99.7% of the sampled answers")])
def test_samples_that_are_the_experts_leave_little_to_learn(identical, told):
    found = nothing_left(identical, 850)
    assert found is None if told is None else found.startswith(told) and "only 3 of 850" in found
