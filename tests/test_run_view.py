"""What there is to see of a run, folded from its events."""

from functools import reduce as fold

from tspin_mlx.run_view import Curve, RunView, reduce

FIRST, SECOND = "iterations/000/adapter", "iterations/001/adapter"


def view_of(*events):
    return fold(reduce, [{"time": 0.0, **event} for event in events], RunView())


STARTED = {
    "kind": "run_started", "name": "quick", "phases": 9, "phases_done": 0, "steps": 4, "counts": {"train": 2},
}  # fmt: skip


def phase(target, iteration=0):
    return {"kind": "phase_started", "phase": target, "title": f"do {target}", "iteration": iteration}


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
    assert view_of(STARTED) == RunView(name="quick")


def test_a_phase_shows_its_title_and_its_progress():
    generating = phase("iterations/001/synthetic", 1)
    view = view_of(STARTED, generating)
    assert (view.phase, view.title) == ("iterations/001/synthetic", "do iterations/001/synthetic")
    assert (view.iteration, view.done, view.total, view.tokens_per_s) == (1, 0, 0, None)
    view = view_of(STARTED, generating, {"kind": "progress", "phase": "x", "done": 3, "total": 8, "tokens_per_s": 90.5})
    assert (view.done, view.total, view.tokens_per_s) == (3, 8, 90.5)


def test_a_step_is_progress_and_shows_its_measures():
    view = view_of(STARTED, phase("a"), step(2, 0.5, iteration=0, **{"memory/peak_bytes": 7}))
    assert (view.done, view.total, view.tokens_per_s) == (2, 2, 50.0)
    assert view.step == {"loss": 0.5, "advantage/current": 0.5, "tokens_per_s": 50.0, "elapsed_s": 0.25}


def test_a_new_phase_starts_without_the_last_ones_progress():
    view = view_of(STARTED, phase("a"), step(1, 0.5), {"kind": "phase_finished", "phase": "a"}, phase("b"))
    assert (view.phase, view.done, view.total, view.tokens_per_s, view.step) == ("b", 0, 0, None, {})
    assert view.current.values == (0.5,)


def test_curves_go_on_through_iterations_and_mark_where_each_began():
    view = view_of(
        STARTED,
        phase("initial/adapter", None),
        step(1, phase="initial/adapter"),  # the warm-up has no advantage
        step(2, phase="initial/adapter"),
        phase("iterations/000/adapter"),
        step(1, 1.0),
        step(2, 2.0),
        phase(SECOND, 1),
        step(1, 3.0, -1.0, SECOND),
        step(2, 4.0, -2.0, SECOND),
    )
    assert view.current == Curve((1.0, 2.0, 3.0, 4.0), marks=(0, 2), phase=SECOND)
    assert view.historical == Curve((-1.0, -2.0), marks=(0,), phase=SECOND)


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
    assert view.current.values == (1.0, 2.0, 3.0, 4.0, 5.0)
    view = view_of(*crashed, step(2, 6.0, -6.0, SECOND))
    assert view.current == Curve((1.0, 2.0, 3.0, 6.0), marks=(0, 2), phase=SECOND)
    assert view.historical == Curve((-1.0, -6.0), marks=(0,), phase=SECOND)
    view = view_of(*crashed, step(2, 6.0, -6.0, SECOND), step(3, 7.0, -7.0, SECOND), step(4, 8.0, -8.0, SECOND))
    assert view.current.values == (1.0, 2.0, 3.0, 6.0, 7.0, 8.0)
    assert view.historical.values == (-1.0, -6.0, -7.0, -8.0)


def test_a_phase_that_is_repeated_from_its_beginning_replaces_all_of_its_steps():
    view = view_of(*two_iterations(), STARTED, phase(SECOND, 1), step(1, 9.0, -9.0, SECOND))
    assert view.current == Curve((1.0, 2.0, 9.0), marks=(0, 2), phase=SECOND)
    assert view.historical == Curve((-9.0,), marks=(0,), phase=SECOND)


def test_a_view_that_begins_in_the_middle_of_a_phase_shows_what_comes():
    seen = [STARTED, phase(SECOND, 1), *(step(number, float(number), phase=SECOND) for number in (11, 12, 13))]
    assert view_of(*seen).current == Curve((11.0, 12.0, 13.0), marks=(0,), phase=SECOND, first=11)
    repeated = view_of(*seen, STARTED, phase(SECOND, 1), step(12, 0.5, phase=SECOND))
    assert repeated.current == Curve((11.0, 0.5), marks=(0,), phase=SECOND, first=11)
    earlier = view_of(*seen, STARTED, phase(SECOND, 1), *(step(n, 0.5, phase=SECOND) for n in (6, 7)))
    assert earlier.current == Curve((0.5, 0.5), marks=(0,), phase=SECOND, first=6)
    later = view_of(*seen, phase("iterations/002/adapter", 2), step(1, 7.0, phase="iterations/002/adapter"))
    assert later.current == Curve((11.0, 12.0, 13.0, 7.0), marks=(0, 3), phase="iterations/002/adapter")


def test_what_was_kept_of_a_phase_is_progress():
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
    done = {"kind": "phase_finished", "phase": "a", "elapsed_s": 1.0}
    view = view_of(STARTED, phase("a"), done, phase("b"), done)
    assert (view.phases_done, view.phase) == (2, None)


def test_a_run_ends_with_its_choice():
    view = view_of(
        STARTED,
        phase("result.json", None),
        {"kind": "chosen", "policy": "iterations/000", "metric": "nll", "value": 1.5},
        {"kind": "run_finished", "elapsed_s": 9.0},
    )
    assert view.stopped is None
    assert (view.best, view.finished, view.failed, view.phase) == ("iterations/000", True, None, None)


def test_a_failure_is_shown_until_the_run_is_started_again():
    failed = [STARTED, phase("a"), {"kind": "run_failed", "message": "step 3: the loss is not finite"}]
    view = view_of(*failed)
    assert (view.failed, view.finished, view.phase) == ("step 3: the loss is not finite", False, None)
    again = view_of(*failed, STARTED)
    assert (again.failed, again.phases_done) == (None, 0)


def test_phases_that_were_done_before_a_start_are_counted():
    done = {"kind": "phase_finished", "phase": "a", "elapsed_s": 1.0}
    assert view_of(STARTED | {"phases_done": 5}, phase("f"), done).phases_done == 6
    # Of two finished phases one was removed before the second start.
    view = view_of(STARTED, phase("a"), done, phase("b"), done, STARTED | {"phases_done": 1}, phase("b"), done)
    assert view.phases_done == 2


def test_a_request_to_stop_is_shown_until_the_run_is_started_again():
    asked = [STARTED, phase("a"), {"kind": "stopping", "after": "iteration"}]
    assert view_of(*asked).stopping == "iteration"
    assert view_of(*asked, {"kind": "stopping", "after": "step"}).stopping == "step"
    stopped = view_of(*asked, {"kind": "run_stopped", "message": "stopped", "exit_code": 143})
    assert (stopped.stopped, stopped.failed, stopped.finished, stopped.phase) == ("stopped", None, False, None)
    again = view_of(*asked, {"kind": "run_stopped", "message": "stopped", "exit_code": 143}, STARTED)
    assert (again.stopping, again.stopped) == (None, None)


def test_a_restart_with_less_at_once_is_a_warning():
    view = view_of(
        {"kind": "warning", "message": "one"},
        {"kind": "restarted", "reason": "out of memory", "micro_batch_size": 2, "generation_batch_size": 16},
        {"kind": "warning", "message": "two"},
    )
    assert view.warnings == ("one", "out of memory: started again with training.micro_batch_size 2", "two")


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
    assert reduce(before, {"time": 1.0, "kind": "generated", "generate/length": 3.0}) == before


def test_a_view_is_not_changed_by_the_events_after_it():
    before = view_of(STARTED, {"kind": "evaluated", "policy": "initial", "eval/nll": 2.0})
    reduce(before, {"time": 1.0, "kind": "evaluated", "policy": "initial", "eval/nll": 9.0})
    assert before.evaluations == {"initial": {"nll": 2.0}}
