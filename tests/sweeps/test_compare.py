"""Means, standard errors and pairs by hand-worked numbers; which runs are taken together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.sweeps.compare import Mean, Outcome, differing, gain, groups, mean, on_test, on_validation, policies

FIRST, SECOND = "iterations/000", "iterations/001"


def outcome(seed=0, *, name="", rate=1, finished=True, best=SECOND, validation=None, test=None, **settings):
    return Outcome(
        name=name or f"run-{rate}-{seed}",
        seed=seed,
        settings={"rate": rate, "steps": 5, **settings},
        finished=finished,
        best=best,
        validation=validation or {},
        test=test or {},
    )


def test_a_mean_and_its_standard_error():
    # deviations -2, -1, 3: (4 + 1 + 9) / 2 = 7, and the root of 7/3
    assert mean([1, 2, 6]) == Mean(3.0, pytest.approx(math.sqrt(7 / 3)), 3)
    # deviations -1, 1: variance 2, standard error 1
    assert mean([4, 6]) == Mean(5.0, 1.0, 2)
    assert mean([0.25] * 4) == Mean(0.25, 0.0, 4)


def test_one_run_has_no_standard_error_and_none_has_no_mean():
    assert mean([0.5]) == Mean(0.5, None, 1)
    assert mean([]) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9), st.floats(-1e6, 1e6), st.randoms())
def test_a_mean_moves_with_its_values_and_its_error_does_not(values, shift, chance):
    before, moved = mean(values), mean([value + shift for value in values])
    shuffled = chance.sample(values, len(values))
    assert moved.value == pytest.approx(before.value + shift, abs=1e-6)
    assert moved.error == pytest.approx(before.error, abs=1e-6)
    assert mean(shuffled) == before
    assert min(values) - 1e-9 <= before.value <= max(values) + 1e-9


THREE = [
    outcome(0, validation={"initial": 2.0, FIRST: 1.5, SECOND: 1.0}, test={"initial": 2.0, SECOND: 1.0}),
    outcome(1, validation={"initial": 4.0, FIRST: 3.5, SECOND: 4.5}, best=FIRST, test={"initial": 5.0, FIRST: 4.0}),
    outcome(2, validation={"initial": 6.0, FIRST: 5.0}, best=FIRST, finished=False),
]


def test_measures_of_a_group():
    (group,) = groups(THREE)
    assert group.settings == {} and group.finished == 2
    assert group.mean(on_validation("initial")) == Mean(4.0, pytest.approx(2 / math.sqrt(3)), 3)
    assert group.mean(on_validation(SECOND)) == Mean(2.75, 1.75, 2)  # of the two runs that have it
    assert group.mean(on_validation("best")).value == pytest.approx((1.0 + 3.5 + 5.0) / 3)  # each run's own
    assert group.mean(on_validation("base")) is None
    assert group.mean(on_test("best")) == Mean(2.5, 1.5, 2)


def test_differences_are_taken_in_each_run():
    (group,) = groups(THREE)
    # On the test 1 - 2 and 4 - 5: the runs lie far apart, and their gains are equal.
    assert group.mean(gain(on_test("best"), on_test("initial"))) == Mean(-1.0, 0.0, 2)
    # On the validation -1, -0.5, -1: mean -5/6; deviations -1/6, 1/3, -1/6; variance (6/36) / 2 = 1/12; error 1/6.
    gained = gain(on_validation("best"), on_validation("initial"))
    assert group.mean(gained) == Mean(pytest.approx(-5 / 6), pytest.approx(1 / 6), 3)


def test_nothing_is_known_of_a_run_that_has_not_begun():
    (group,) = groups([outcome(best=None, finished=False)])
    assert group.mean(on_validation("best")) is None
    assert group.mean(gain(on_test("best"), on_test("initial"))) is None


def test_runs_are_taken_together_when_only_the_seed_differs():
    runs = [outcome(1), outcome(0, rate=2), outcome(0), outcome(1, rate=2), outcome(2)]
    found = groups(runs)
    assert [group.settings for group in found] == [{"rate": 1}, {"rate": 2}]  # and not the steps, which are the same
    assert [[run.name for run in group.runs] for group in found] == [["run-1-0", "run-1-1", "run-1-2"],
                                                                     ["run-2-0", "run-2-1"]]  # fmt: skip


def test_a_setting_that_only_some_have_tells_them_apart():
    found = groups([outcome(), outcome(kind="sft"), outcome(kind=[1, 2])])
    assert [group.settings for group in found] == [{"kind": None}, {"kind": "sft"}, {"kind": [1, 2]}]
    assert differing([{"a": 1, "b": 2}, {"b": 2, "a": 1}]) == []


def test_a_run_and_its_copy_count_once():
    copy = outcome(0, name="copy", finished=False)
    for runs in ([outcome(0), copy, outcome(1)], [copy, outcome(0), outcome(1)]):
        (group,) = groups(runs)
        assert [run.name for run in group.runs] == ["run-1-0", "run-1-1"]
        assert group.repeated == ("copy",)


def test_policies_come_in_the_order_of_a_run():
    measured = {f"iterations/{i:03}": 1.0 for i in (10, 2)} | {"initial": 1.0}
    found = policies([outcome(validation=measured), outcome(1, validation={"base": 1.0, FIRST: 1.0})])
    assert found == ["base", "initial", FIRST, "iterations/002", "iterations/010"]
