"""The tables of `runs compare`, on runs that no model has made."""

import json

import pytest

from tspin_mlx.base.errors import UsageError
from tspin_mlx.cli.commands.runs import compare as compare_runs


@pytest.fixture
def compare(tmp_path, capsys, monkeypatch):
    """The lines that a comparison prints in so many columns, without the space at their ends."""

    def printed(*names, columns=140, metric=None, as_json=False):
        monkeypatch.setenv("COLUMNS", str(columns))
        compare_runs(list(names), tmp_path / "runs", metric, as_json=as_json)
        text = capsys.readouterr().out
        return json.loads(text) if as_json else [line.rstrip() for line in text.splitlines()]

    return printed


@pytest.fixture
def four(make_run):
    """Two settings with two seeds each; one run is in the middle of its last training. Their nll is 2 at first,
    then 1.75 after the warm-up, 1.5 and 1.25."""
    for seed in (0, 1):
        make_run(f"plain-{seed}", overrides=[f"run.seed={seed}"])
        until = "iterations/001/adapter" if seed else None
        make_run(f"fast-{seed}", overrides=[f"run.seed={seed}", "training.learning_rate=0.1"], until=until)


def test_a_row_per_group_with_what_differs(four, compare):
    assert compare() == [
        "Validation, nll (lower is better)",
        "training.learning_rate   seeds           base        initial        iter. 0        iter. 1           best"
        "  best − initial  best − row 1",
        "1e-05                        2  2.000 ± 0.000  1.750 ± 0.000  1.500 ± 0.000  1.250 ± 0.000  1.250 ± 0.000"
        "  −0.500 ± 0.000             –",
        "0.1                     1 of 2  2.000 ± 0.000  1.750 ± 0.000  1.500 ± 0.000      1.250 (1)      1.250 (1)"
        "      −0.500 (1)    +0.000 (1)",
        "",
        "± is the standard error over seeds. Differences are taken seed by seed, then averaged.",
        "Validation examples chose the best policy: measured on them, it looks better than it is.",
        "Unfinished runs count with the policies they have so far; they have no best one yet.",
    ]


def test_in_a_narrow_place_errors_stand_below_their_means(four, compare):
    lines = compare(columns=110)
    assert lines[2].split() == ["1e-05", "2", "2.000", "1.750", "1.500", "1.250", "1.250", "−0.500", "–"]
    assert lines[3].split() == ["±", "0.000"] * 6
    assert not any("…" in line for line in lines)


def test_where_settings_have_no_room_beside_they_stand_above(four, compare):
    lines = compare(columns=90)
    assert lines[:5] == [
        "row  settings; after the first row, those that differ from it",
        "1    training.learning_rate 1e-05",
        "2    training.learning_rate 0.1",
        "",
        "Validation, nll (lower is better)",
    ]
    assert lines[6].split() == ["1", "2", "2.000", "1.750", "1.500", "1.250", "1.250", "−0.500", "–"]
    assert max(map(len, lines)) <= 90


def test_nothing_is_cut_where_even_that_has_no_room(four, compare):
    lines = compare(columns=40)
    assert not any("…" in line for line in lines) and any(line.endswith("best − row 1") for line in lines)


def test_one_run_needs_no_errors_and_no_differences_to_others(four, compare):
    lines = compare("fast-0")
    assert lines[1].split() == ["seeds", "base", "initial", "iter.", "0", "iter.", "1", "best", "best", "−", "initial"]
    assert lines[2].split() == ["1", "2.000", "1.750", "1.500", "1.250", "1.250", "−0.500"]
    assert "±" not in "".join(lines)


def test_the_measure_that_chose_the_best_unless_another_is_asked_for(make_run, compare):
    make_run("a", overrides=["evaluation.best=json_valid"])
    assert compare(as_json=True)["metric"] == "json_valid"
    assert compare(as_json=True, metric="length")["metric"] == "length"
    make_run("b")
    assert compare(as_json=True)["metric"] == "nll"  # they do not agree
    with pytest.raises(UsageError, match="none of the runs measured 'json_vald'") as caught:
        compare(metric="json_vald")
    assert caught.value.hint == "did you mean json_valid?"


def test_without_a_warm_up_the_initial_policy_is_the_base_model(make_run, compare):
    make_run("cold", overrides=["warmup.epochs=0"])
    (group,) = compare(as_json=True)["groups"]
    assert group["validation"]["base"] == group["validation"]["initial"] == {"value": 2.0, "error": None, "count": 1}


def test_a_copy_is_left_out_and_named(make_run, compare):
    make_run("first")
    make_run("second", overrides=["evaluation.samples=9", "run.checkpoint_seconds=1"])
    (group,) = compare(as_json=True)["groups"]
    assert (group["repeated"], len(group["runs"])) == (["second"], 1)
    assert compare()[-1] == "Left out because they repeat another run, seed included: second."


def test_what_a_model_is_called_cannot_command_the_terminal(make_run, compare):
    make_run("a")
    make_run("b", hostile=True)
    assert not [char for char in "".join(compare()) if ord(char) < 32 or char == "\u202e"]


def test_a_run_that_was_only_made_and_a_folder_without_any(make_run, compare, tmp_path):
    make_run("new", until="base/adapter")
    assert compare()[2].split() == ["0", "of", "1", "–", "–"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no runs in"):
        compare_runs([], tmp_path / "empty", None, as_json=False)
    with pytest.raises(UsageError, match="did you mean new"):
        try:
            compare("newer")
        except UsageError as error:
            raise UsageError(error.hint or "") from None
