"""The view of a run, folded from its events."""

from functools import reduce as fold

import numpy as np
import pytest

from tspin_mlx.recipe.phase import Phase
from tspin_mlx.view.run_view import Part, RunView, reduce, remaining_s
from tspin_mlx.view.steps import Steps

FIRST, SECOND = "iterations/000/adapter", "iterations/001/adapter"


def view_of(*events):
    return fold(reduce, [{"time": 0.0, **event} for event in events], RunView())


def current(view, name="current"):
    """The advantage at every step that has one."""
    values = view.steps.column(f"advantage/{name}")
    return values[~np.isnan(values)].tolist()


def historical(view):
    return current(view, "historical")


def marks(view):
    return [(part.start, part.phase) for part in view.self_play]


STARTED = {
    "kind": "run_started", "name": "quick", "phases": 9, "phases_done": 0, "steps": 4, "counts": {"train": 2},
}  # fmt: skip


def phase(target, iteration=0):
    return {"kind": "phase_started", "phase": target, "title": f"do {target}", "iteration": iteration}


def done(target, elapsed_s=1.0):
    return {"kind": "phase_finished", "phase": target, "elapsed_s": elapsed_s}


def step(number, current=None, historical=None, phase="iterations/000/adapter", **more):
    advantages = {"advantage/current": current, "advantage/historical": historical}
    known = {name: value for name, value in advantages.items() if value is not None}
    return {
        "kind": "step",
        "phase": phase,
        "iteration": 0,
        "step": number,
        "steps": 2,
        "tokens_per_s": 50.0,
        "elapsed_s": 0.25,
        "loss": 1.0 / number,
        **known,
        **more,
    }


def test_before_anything_there_is_nothing_to_see():
    assert view_of() == RunView()
    assert view_of(STARTED) == RunView(name="quick", phases=9, news=({"time": 0.0, **STARTED},))


def test_a_phase_shows_its_title_and_its_progress():
    generating = phase("iterations/001/synthetic", 1)
    view = view_of(STARTED, generating)
    assert (view.phase, view.title) == ("iterations/001/synthetic", "do iterations/001/synthetic")
    assert (view.iteration, view.done, view.total, view.tokens_per_s) == (1, 0, 0, None)
    view = view_of(STARTED, generating, {"kind": "progress", "phase": "x", "done": 3, "total": 8, "tokens_per_s": 90.5})
    assert (view.done, view.total, view.tokens_per_s) == (3, 8, 90.5)


def test_a_step_is_progress_and_shows_its_measures():
    view = view_of(STARTED, phase("a"), step(2, 0.5, phase="a", **{"memory/peak_bytes": 7}))
    assert (view.done, view.total, view.tokens_per_s) == (2, 2, 50.0)
    assert (view.step["loss"], view.step["advantage/current"], view.step["memory/peak_bytes"]) == (0.5, 0.5, 7)


def test_a_new_phase_starts_without_the_last_ones_progress():
    view = view_of(STARTED, phase("a"), step(1, 0.5), done("a"), phase("b"))
    assert (view.phase, view.done, view.total, view.tokens_per_s, view.step) == ("b", 0, 0, None, {})
    assert current(view) == [0.5]


def test_curves_continue_through_iterations_and_mark_where_each_began():
    view = view_of(
        STARTED,
        phase("initial/adapter", None),
        step(1, phase="initial/adapter", iteration=None),  # the warm-up has no advantage
        step(2, phase="initial/adapter", iteration=None),
        phase("iterations/000/adapter"),
        step(1, 1.0),
        step(2, 2.0),
        phase(SECOND, 1),
        step(1, 3.0, -1.0, SECOND),
        step(2, 4.0, -2.0, SECOND),
    )
    assert current(view) == [1.0, 2.0, 3.0, 4.0]
    assert historical(view) == [-1.0, -2.0]
    assert np.isnan(view.steps.column("advantage/historical")[:4]).all()
    assert view.parts[0] == Part("initial/adapter", None, 0)
    assert marks(view) == [(2, FIRST), (4, SECOND)]


def two_iterations():
    """All steps of an iteration, and three of the next."""
    first = [phase(FIRST), step(1, 1.0), step(2, 2.0)]
    return [
        STARTED, *first, phase(SECOND, 1), step(1, 3.0, -1.0, SECOND), step(2, 4.0, -2.0, SECOND),
        step(3, 5.0, -3.0, SECOND),
    ]  # fmt: skip


def test_steps_that_are_repeated_after_a_crash_replace_what_came_after_the_checkpoint():
    crashed = [
        *two_iterations(),
        STARTED,
        phase(SECOND, 1),
        {"kind": "resumed", "phase": SECOND, "done": 1, "total": 4},
    ]
    view = view_of(*crashed)
    assert current(view) == [1.0, 2.0, 3.0, 4.0, 5.0]
    view = view_of(*crashed, step(2, 6.0, -6.0, SECOND))
    assert current(view) == [1.0, 2.0, 3.0, 6.0] and historical(view) == [-1.0, -6.0]
    assert marks(view) == [(0, FIRST), (2, SECOND)]
    view = view_of(*crashed, step(2, 6.0, -6.0, SECOND), step(3, 7.0, -7.0, SECOND), step(4, 8.0, -8.0, SECOND))
    assert current(view) == [1.0, 2.0, 3.0, 6.0, 7.0, 8.0]
    assert historical(view) == [-1.0, -6.0, -7.0, -8.0]


def test_a_phase_that_is_repeated_from_its_beginning_replaces_all_of_its_steps():
    view = view_of(*two_iterations(), STARTED, phase(SECOND, 1), step(1, 9.0, -9.0, SECOND))
    assert current(view) == [1.0, 2.0, 9.0] and historical(view) == [-9.0]
    assert marks(view) == [(0, FIRST), (2, SECOND)]


def test_a_view_that_begins_in_the_middle_of_a_phase_shows_what_comes():
    seen = [STARTED, phase(SECOND, 1), *(step(number, float(number), phase=SECOND) for number in (11, 12, 13))]
    assert current(view_of(*seen)) == [11.0, 12.0, 13.0]
    assert view_of(*seen).parts == (Part(SECOND, 0, start=0, first=11),)
    repeated = view_of(*seen, STARTED, phase(SECOND, 1), step(12, 0.5, phase=SECOND))
    assert current(repeated) == [11.0, 0.5]
    earlier = view_of(*seen, STARTED, phase(SECOND, 1), *(step(n, 0.5, phase=SECOND) for n in (6, 7)))
    assert current(earlier) == [0.5, 0.5]
    assert earlier.parts == (Part(SECOND, 0, start=0, first=6),)
    later = view_of(*seen, phase("iterations/002/adapter", 2), step(1, 7.0, phase="iterations/002/adapter"))
    assert current(later) == [11.0, 12.0, 13.0, 7.0]
    assert marks(later) == [(0, SECOND), (3, "iterations/002/adapter")]


def test_work_that_was_kept_of_a_phase_is_progress():
    view = view_of(STARTED, phase(SECOND, 1), {"kind": "resumed", "phase": SECOND, "done": 10, "total": 14})
    assert (view.done, view.total, view.tokens_per_s) == (10, 14, None)


def test_evaluations_are_kept_by_policy_and_the_last_one_counts():
    view = view_of(
        STARTED,
        {"kind": "evaluated", "policy": "initial", "eval/nll": 2.0, "eval/json_exact": 0.0},
        {"kind": "evaluated", "policy": "iterations/000", "eval/nll": 1.5},
        {"kind": "evaluated", "policy": "initial", "eval/nll": 1.75},
    )
    assert view.evaluations == {"initial": {"nll": 1.75}, "iterations/000": {"nll": 1.5}}
    assert list(view.evaluations) == ["initial", "iterations/000"]


def test_finished_phases_are_counted():
    view = view_of(STARTED, phase("a"), done("a"), phase("b"), done("b"))
    assert (view.phases_done, view.phase) == (2, None)


def test_a_run_ends_with_its_choice():
    view = view_of(
        STARTED,
        phase("result.json", None),
        {"kind": "chosen", "policy": "iterations/000", "metric": "nll", "value": 1.5},
        {"kind": "run_finished", "elapsed_s": 9.0},
    )
    assert (view.best, view.finished, view.failed, view.phase) == ("iterations/000", True, None, None)


def test_a_failure_is_shown_until_the_run_is_started_again():
    failed = [STARTED, phase("a"), {"kind": "run_failed", "message": "step 3: the loss is not finite"}]
    view = view_of(*failed)
    assert (view.failed, view.finished, view.phase) == ("step 3: the loss is not finite", False, None)
    again = view_of(*failed, STARTED)
    assert (again.failed, again.phases_done) == (None, 0)


def test_phases_that_were_done_before_a_start_are_counted():
    assert view_of(STARTED | {"phases_done": 5}, phase("f"), done("f")).phases_done == 6
    # Of two finished phases one was removed before the second start.
    first = [phase("a"), done("a"), phase("b"), done("b")]
    view = view_of(STARTED, *first, STARTED | {"phases_done": 1}, phase("b"), done("b"))
    assert view.phases_done == 2


def test_a_request_to_stop_is_shown_until_the_run_is_started_again():
    asked = [STARTED, phase("a"), {"kind": "stopping", "after": "iteration"}]
    assert view_of(*asked).stopping == "iteration"
    assert view_of(*asked, {"kind": "stopping", "after": "step"}).stopping == "step"
    stopped = view_of(*asked, {"kind": "run_stopped", "message": "stopped", "exit_code": 143})
    assert (stopped.failed, stopped.finished, stopped.phase) == (None, False, None)
    again = view_of(*asked, {"kind": "run_stopped", "message": "stopped", "exit_code": 143}, STARTED)
    assert again.stopping is None


def test_a_restart_with_less_at_once_is_a_warning():
    view = view_of(
        {"kind": "warning", "message": "one"},
        {"kind": "restarted", "reason": "out of memory", "micro_batch_size": 2, "generation_batch_size": 16},
        {"kind": "warning", "message": "two"},
    )
    assert view.warnings == ("one", "out of memory: restarted with training.micro_batch_size 2", "two")


def test_starting_a_finished_run_again_keeps_what_was_measured():
    view = view_of(
        STARTED,
        {"kind": "evaluated", "policy": "initial", "eval/nll": 2.0},
        {"kind": "run_finished", "elapsed_s": 9.0},
        STARTED,
    )
    assert not view.finished
    assert view.evaluations == {"initial": {"nll": 2.0}}


def test_warnings_keep_their_order():
    view = view_of({"kind": "warning", "message": "one"}, {"kind": "warning", "message": "two"})
    assert view.warnings == ("one", "two")


def test_events_of_a_later_version_change_nothing():
    before = view_of(STARTED, phase("a"))
    assert reduce(before, {"time": 1.0, "kind": "celebrated", "name": "other"}) == before
    assert reduce(before, {"time": 1.0, "kind": "danced", "generate/length": 3.0}) == before


def test_a_view_is_not_changed_by_the_events_after_it():
    before = view_of(STARTED, {"kind": "evaluated", "policy": "initial", "eval/nll": 2.0})
    reduce(before, {"time": 1.0, "kind": "evaluated", "policy": "initial", "eval/nll": 9.0})
    assert before.evaluations == {"initial": {"nll": 2.0}}


def test_two_ways_on_from_one_view_do_not_meet():
    start = view_of(STARTED, phase(FIRST), step(1, 1.0), step(2, 2.0))
    ways = [reduce(start, {"time": 1.0, **step(3, value)}) for value in (7.0, 8.0)]
    ways.append(reduce(ways[0], {"time": 1.0, **step(4, 9.0)}))
    assert [current(view) for view in (start, *ways)] == [[1, 2], [1, 2, 7], [1, 2, 8], [1, 2, 7, 9]]


def test_a_column_grows_with_its_steps_and_has_gaps():
    steps = Steps()
    for i in range(200):
        steps = steps.followed_by({"loss": float(i)} if i % 2 else {"nll": 1}, i)
        if i % 50 == 0:
            steps.column("loss")
    assert steps.column("loss").shape == (200,)
    assert np.nansum(steps.column("loss")) == sum(range(1, 200, 2)) and np.isnan(steps.column("loss")[::2]).all()
    assert steps.names() == ["nll", "loss"]
    assert np.isnan(steps.column("never")).all()
    before = steps.column("loss")
    cut = steps.followed_by({"loss": -1.0}, 2)
    assert (len(cut), cut[-1], len(steps)) == (3, {"loss": -1.0}, 200)
    assert np.array_equal(before, steps.column("loss"), equal_nan=True)
    with pytest.raises(IndexError):
        cut[3]


def test_remaining_time_of_a_phase_follows_from_its_own_speed():
    at = phase(SECOND, 1) | {"time": 100.0}
    progress = {"kind": "progress", "phase": SECOND, "done": 30, "total": 40, "tokens_per_s": 1.0, "time": 120.0}
    assert view_of(STARTED, at).phase_remaining_s() is None
    assert view_of(STARTED, at, progress).phase_remaining_s() == pytest.approx(10 * 20 / 30)
    kept = {"kind": "resumed", "phase": SECOND, "done": 20, "total": 40, "time": 101.0}
    assert view_of(STARTED, at, kept).phase_remaining_s() is None
    assert view_of(STARTED, at, kept, progress).phase_remaining_s() == pytest.approx(10 * 20 / 10)


def test_remaining_time_of_a_run_is_known_when_each_kind_of_phase_was_seen():
    kinds = [("generate", "g0"), ("train", "t0"), ("generate", "g1"), ("train", "t1"), ("choose", "c")]
    phases = [Phase(kind, "", target, "base", 0) for kind, target in kinds]
    first = [STARTED, phase("g0"), done("g0", 30.0), phase("t0")]
    assert remaining_s(view_of(*first), phases) is None
    second = [*first, done("t0", 50.0), phase("g1") | {"time": 100.0}]
    assert remaining_s(view_of(*second), phases) == 30 + 50
    half = {"kind": "progress", "phase": "g1", "done": 5, "total": 10, "tokens_per_s": 1.0, "time": 110.0}
    assert remaining_s(view_of(*second, half), phases) == 10 + 50
    assert remaining_s(view_of(*second, done("g1")), phases) is None  # between phases


def test_generation_machine_and_hints_are_kept():
    generated = {"kind": "generated", "phase": "x", "iteration": 1, "generate/stop_rate": 0.5}
    machine = {"kind": "machine", "device": "M9", "memory_bytes": 8}
    view = view_of(STARTED, machine, generated, {"kind": "run_failed", "message": "no", "hint": "try"})
    assert (view.generated, view.machine) == ({1: {"stop_rate": 0.5}}, {"device": "M9", "memory_bytes": 8})
    assert (view.failed, view.hint) == ("no", "try")
    assert [event["kind"] for event in view.news] == ["run_started", "machine", "generated", "run_failed"]
