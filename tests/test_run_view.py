"""What there is to see of a run, folded from its events."""

from functools import reduce as fold

from tspin_mlx.run_view import Curve, RunView, reduce


def view_of(*events):
    return fold(reduce, [{"time": 0.0, **event} for event in events], RunView())


STARTED = {"kind": "run_started", "name": "quick", "phases": 9, "steps": 4, "counts": {"train": 2}}


def phase(target, iteration=0):
    return {"kind": "phase_started", "phase": target, "title": f"do {target}", "iteration": iteration}


def step(number, current=None, historical=None, **more):
    advantages = {"advantage/current": current, "advantage/historical": historical}
    known = {name: value for name, value in advantages.items() if value is not None}
    return {
        "kind": "step",
        "phase": "p",
        "iteration": 0,
        "step": number,
        "steps": 2,
        "tokens_per_s": 50.0,
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
    assert view.step == {"loss": 0.5, "advantage/current": 0.5, "tokens_per_s": 50.0}


def test_a_new_phase_starts_without_the_last_ones_progress():
    view = view_of(STARTED, phase("a"), step(1, 0.5), {"kind": "phase_finished", "phase": "a"}, phase("b"))
    assert (view.phase, view.done, view.total, view.tokens_per_s, view.step) == ("b", 0, 0, None, {})
    assert view.current.values == (0.5,)


def test_curves_go_on_through_iterations_and_mark_where_each_began():
    view = view_of(
        STARTED,
        phase("initial/adapter", None),
        step(1),  # the warm-up has no advantage
        step(2),
        phase("iterations/000/adapter"),
        step(1, 1.0),
        step(2, 2.0),
        phase("iterations/001/adapter", 1),
        step(1, 3.0, -1.0),
        step(2, 4.0, -2.0),
    )
    assert view.current == Curve((1.0, 2.0, 3.0, 4.0), marks=(0, 2))
    assert view.historical == Curve((-1.0, -2.0), marks=(0,))


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
    assert (view.best, view.finished, view.failed, view.phase) == ("iterations/000", True, None, None)


def test_a_failure_is_shown_until_the_run_is_started_again():
    failed = [STARTED, phase("a"), {"kind": "run_failed", "message": "step 3: the loss is not finite"}]
    view = view_of(*failed)
    assert (view.failed, view.finished, view.phase) == ("step 3: the loss is not finite", False, None)
    again = view_of(*failed, STARTED)
    assert (again.failed, again.phases_done) == (None, 0)


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
