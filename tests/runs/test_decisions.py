"""Decisions on how much is computed at once: kept with the run, and the last one counts."""

import pytest

from tests.support.bare_runs import plan
from tspin_mlx.base.errors import DamagedError
from tspin_mlx.recipe.plan import BatchSizes
from tspin_mlx.runs.run import Run, open_run


def test_decisions_are_kept_and_the_last_one_counts(made):
    assert made.decisions() == []
    made.decide("out of memory", BatchSizes(False, 2, 16))
    made.decide("the GPU watchdog", BatchSizes(False, 1, 8))
    found = Run(made.path).decisions()
    assert [(made.reason, made.sizes) for made in found] == [
        ("out of memory", BatchSizes(False, 2, 16)),
        ("the GPU watchdog", BatchSizes(False, 1, 8)),
    ]
    assert Run(made.path).plan() == plan().with_sizes(BatchSizes(False, 1, 8))
    assert open_run(made.path, plan()).name == "quick"  # the recipe is still the one it was made with


def test_a_decision_that_a_crash_left_half_written_was_not_made(made):
    made.decide("out of memory", BatchSizes(False, 2, 16))
    path = made.path / "decisions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"reason": "half')
    assert made.plan() == plan().with_sizes(BatchSizes(False, 2, 16))
    made.decide("again", BatchSizes(False, 1, 8))
    assert path.read_bytes().startswith(whole + b'{"reason": ')
    assert [decision.reason for decision in made.decisions()] == ["out of memory", "again"]


def test_decisions_that_cannot_be_read_are_damage(made):
    (made.path / "decisions.jsonl").write_text("{\n")
    with pytest.raises(DamagedError, match=r"decisions\.jsonl cannot be read"):
        made.plan()


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "{}"),
        '{"reason": "x", "memory": "fast", "micro_batch_size": 0, "generation_batch_size": 1}',
        '{"reason": "x", "memory": "auto", "micro_batch_size": 1, "generation_batch_size": 1}',
    ],
)
def test_damaged_decisions_are_refused(made, line):
    made.decide("out of memory", BatchSizes(False, 2, 16))
    with (made.path / "decisions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DamagedError, match=r"decisions\.jsonl cannot be read"):
        made.plan()
