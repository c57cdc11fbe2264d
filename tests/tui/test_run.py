"""The screen of a run, pane by pane: driven by Textual's pilot on runs that no model has made."""

import json
import threading
from dataclasses import replace

import pytest
from textual.widgets import DataTable, RichLog

from tests.tui.driver import TRAINING, drive, text_of, until
from tspin_mlx.base.errors import UsageError
from tspin_mlx.runs.lock import RunLock
from tspin_mlx.runs.samples import held_out
from tspin_mlx.tui.panes.metrics import MetricsGrid
from tspin_mlx.tui.panes.samples import SamplesPane
from tspin_mlx.tui.screens.home import HomeScreen
from tspin_mlx.tui.screens.new_run import NewRunScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.screens.stop_dialog import StopDialog
from tspin_mlx.tui.state.machine_stats import ProcessStats
from tspin_mlx.tui.state.status import RunStatus, headline
from tspin_mlx.tui.widgets.chart import ChartView
from tspin_mlx.view.run_view import RunView


def test_the_panes_of_a_run_have_their_keys(done):
    wanted = {
        "1": ["━━ current", "━━ historical", "iteration 1", "reward accuracy", "held out", "★ iteration 1"],
        "2": ["advantage/current", "grad_norm", "memory/peak_bytes"],
        "3": ["held out", "please do validation number 0", "expert  y  −9.00", "synthetic", "after the iteration"],
        "4": ["M9", "memory held", "1.50 of 17.2 GB", "tokens/s"],
        "5": ["iteration 1: train on triplets", "finished", "a look at"],
    }

    async def scenario(app, pilot):
        for key, words in wanted.items():
            await pilot.press(key)
            await pilot.pause(0.3)
            seen = text_of(app)
            for word in words:
                assert word in seen, (key, word)
        assert "✓ finished" in seen and "best: iteration 1 (NLL 1.25)" in seen

    drive(scenario, run=done)


def test_a_working_run_shows_its_phase_and_what_is_left(working):
    async def scenario(app, pilot):
        await until(pilot, lambda: "▸ train on triplets" in text_of(app))
        seen = text_of(app)
        assert "iteration 1 (2 of 2)" in seen and "6/12" in seen and "left" in seen
        assert "✓ answer the prompts" in seen and "s stop" in seen and "r resume" not in seen

    drive(scenario, run=working)


@pytest.mark.parametrize("size", [(120, 36), (50, 16)])
def test_a_warm_up_is_seen_until_self_play_begins(make_run, size):
    whole = make_run("whole").events_path.read_text().splitlines(keepends=True)
    run = make_run("warm", until="initial/adapter")
    begun = next(i for i, line in enumerate(whole) if '"advantage/current"' in line)

    async def scenario(app, pilot):
        await until(pilot, lambda: "━━ warm-up: NLL of the expert's answers 0.17" in text_of(app))
        assert "no steps yet" not in text_of(app) and "historical" not in text_of(app)
        with run.events_path.open("a") as log:  # the rest of the warm-up, and not one step more
            log.writelines(whole[len(run.events_path.read_text().splitlines()) : begun])
        await until(pilot, lambda: "━━ warm-up: NLL of the expert's answers 0.08" in text_of(app))
        with run.events_path.open("a") as log:
            log.write(whole[begun])
        await until(pilot, lambda: "━━ current" in text_of(app) and "warm-up: NLL" not in text_of(app))

    drive(scenario, run=run, size=size)


@pytest.mark.parametrize("width", [48, 78])
def test_a_long_name_leaves_room_for_the_state(working, width):
    name = "household-commands-" * 3 + "arm=anchored-seed=3"
    for state, words in (("running", "● running   iteration 1 (2 of 2)"), ("interrupted", "‖ interrupted: r resumes")):
        view = RunView(name=name, phase=TRAINING, iteration=1)
        line = headline(RunStatus(view, state, working.plan_row, {}), width).plain
        assert line.startswith("househo") and "seed=3     " in line and words[:24] in line
        assert len(line) <= width


def test_a_dead_engine_is_told_within_two_seconds(make_run):
    run = make_run("killed", until=TRAINING)
    lock = RunLock.acquire(run.path)

    async def scenario(app, pilot):
        await until(pilot, lambda: "running" in text_of(app))
        lock.close()
        await until(pilot, lambda: "interrupted: r resumes" in text_of(app), seconds=2.5)
        assert "r resume" in text_of(app)

    drive(scenario, run=run)


@pytest.mark.parametrize(("key", "when"), [("i", "iteration"), ("s", "step"), ("n", "now"), ("escape", None)])
def test_stop_is_asked_about(working, monkeypatch, key, when):
    asked = []
    monkeypatch.setattr("tspin_mlx.tui.screens.run.request_stop", lambda run, when: asked.append(when))

    async def scenario(app, pilot):
        await pilot.press("s")
        assert isinstance(app.screen, StopDialog)
        assert "after this iteration" in text_of(app)
        await pilot.press(key)
        assert isinstance(app.screen, RunScreen)

    drive(scenario, run=working)
    assert asked == ([when] if when else [])


def test_a_request_that_fails_is_told(working, monkeypatch):
    def refuse(run, when):
        raise UsageError("nobody works on it", hint="resume it")

    monkeypatch.setattr("tspin_mlx.tui.screens.run.request_stop", refuse)

    async def scenario(app, pilot):
        await pilot.press("s", "s")
        await until(pilot, lambda: "nobody works on it" in text_of(app))

    drive(scenario, run=working)


def test_resume_follows_what_was_started(make_run, monkeypatch):
    run = make_run("half", until=TRAINING)
    started = []
    monkeypatch.setattr("tspin_mlx.tui.screens.run.resume", lambda run: started.append(RunLock.acquire(run.path)))

    async def scenario(app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: "running" in text_of(app))
        await pilot.press("r")  # no second one
        assert len(started) == 1

    drive(scenario, run=run)
    started[0].close()


def test_space_freezes_the_view_and_goes_on(working):
    async def scenario(app, pilot):
        await until(pilot, lambda: "6/12" in text_of(app))
        await pilot.press("space")
        last = json.loads(working.events_path.read_text().splitlines()[-1])
        with working.events_path.open("a") as log:
            log.write(json.dumps(last | {"step": 7}) + "\n")
        await pilot.pause(0.8)
        assert "frozen" in text_of(app) and "6/12" in text_of(app)
        await pilot.press("space")
        await until(pilot, lambda: "7/12" in text_of(app))
        assert "frozen" not in text_of(app)

    drive(scenario, run=working)


def test_a_finished_run_is_played_again_at_speed(done):
    async def scenario(app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: "replay at" in text_of(app))
        speed = app.screen.source.speed
        await pilot.press("greater_than_sign")
        assert app.screen.source.speed == 2 * speed
        await pilot.press("less_than_sign", "less_than_sign")
        assert app.screen.source.speed == max(1.0, speed / 2)
        await pilot.press(*["greater_than_sign"] * 12)
        await until(pilot, lambda: app.screen.source.caught_up)
        await pilot.press("p")
        assert "✓ finished" in text_of(app)

    drive(scenario, run=done)


@pytest.mark.parametrize("key", ["d", "q", "escape"])
def test_detaching_says_that_training_goes_on(working, key):
    async def scenario(app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, HomeScreen) and "continues in the background" in text_of(app))

    drive(scenario, run=working)


def test_a_new_run_is_made_from_here(done):
    async def scenario(app, pilot):
        await pilot.press("n")
        assert isinstance(app.screen, NewRunScreen) and app.screen.origin is None
        await pilot.press("escape")
        assert isinstance(app.screen, RunScreen)

    drive(scenario, run=done)


def test_smoothing_can_be_changed(done):
    async def scenario(app, pilot):
        chart = app.screen.query_one("#advantages", ChartView)
        assert chart.plot.effective_window == 1
        await pilot.press("right_square_bracket")
        assert chart.plot.effective_window == 2
        await pilot.press("right_square_bracket")
        assert chart.plot.effective_window == 4
        await pilot.press("left_square_bracket")
        assert chart.plot.effective_window == 2

    drive(scenario, run=done)


def test_metrics_are_filtered_and_shown_on_a_log_scale(done):
    async def scenario(app, pilot):
        await pilot.press("2")
        grid = app.screen.query_one(MetricsGrid)
        assert len(grid.names) > 10
        await pilot.press("slash", *"grad")
        assert grid.names == ["grad_norm"]
        await pilot.press("enter", "l")
        assert grid.log_scale and "grad_norm" in text_of(app)
        await pilot.press("slash", "escape")
        assert len(grid.names) > 10 and isinstance(app.screen, RunScreen)

    drive(scenario, run=done)


def test_samples_step_through_iterations_are_ordered_and_switch_to_the_training_data(done):
    async def scenario(app, pilot):
        await pilot.press("3")
        await pilot.pause(0.3)
        pane = app.screen.query_one(SamplesPane)
        assert "answer of iterations/001" in text_of(app) and "answer of iterations/000" in text_of(app)
        await pilot.press("left")
        assert "‹ iteration 0 ›" in text_of(app) and "answer of iterations/001" not in text_of(app)
        await pilot.press("right", "right")
        assert "iteration 1" in text_of(app)
        assert [sample.current for sample in pane._sorted] == [-5.0, 3.0, 0.5]
        await pilot.press("o")
        assert [sample.current for sample in pane._sorted] == [-5.0, 0.5, 3.0]
        await pilot.press("o")
        assert [sample.historical for sample in pane._sorted] == [-3.0, -0.5, 2.0]
        await pilot.press("down")
        await pilot.press("t")
        assert "8 trained on" in text_of(app) and "please do train number" in text_of(app)

    drive(scenario, run=done)


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (50, 16)])
def test_the_end_of_a_long_answer_is_reached_with_keys(done, monkeypatch, size):
    def longer(run, policy):
        long = "\n".join([*(f"line {i}" for i in range(60)), "the end"])
        return [replace(one, answer=replace(one.answer, text=long)) for one in held_out(run, policy)]

    monkeypatch.setattr("tspin_mlx.tui.panes.samples.held_out", longer)

    async def scenario(app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "tab answers" in text_of(app) and "validation number 0" in text_of(app))
        await pilot.press("pagedown", "end")
        assert app.screen.query_one(DataTable).cursor_row == 2 and "the end" not in text_of(app)
        await pilot.press("tab", *["pagedown"] * 12)
        await until(pilot, lambda: "the end" in text_of(app))
        await pilot.press("left")
        assert "‹ iteration 0 ›" in text_of(app)
        await pilot.press("tab", "up")  # another prompt is read from its beginning
        assert app.screen.query_one(DataTable).cursor_row == 1
        await until(pilot, lambda: "the end" not in text_of(app) and "current" in text_of(app))
        assert app.screen.query_one("#samples-detail").scroll_offset.y == 0

    drive(scenario, run=done, size=size)


def tell(run, **event):
    """Add to the log of a run, as its engine would."""
    with run.events_path.open("a") as log:
        log.write(json.dumps({"time": 1_800_000_000.0, **event}) + "\n")


def test_only_what_is_new_is_added_to_a_long_log(working, monkeypatch):
    step = json.loads(working.events_path.read_text().splitlines()[-1]) | {"steps": 2000}
    for number in range(7, 1200):
        tell(working, **step | {"step": number, "time": 1_700_001_000.0 + number})
    cleared = []

    def seen(app):
        return [line[:-3] for line in text_of(app).splitlines()[5:-1]]  # without the scroll bar

    async def scenario(app, pilot):
        await pilot.press("5", "t")
        log = app.screen.query_one(RichLog)
        await until(pilot, lambda: any("step 1199/2000" in line.text for line in log.lines))
        await until(pilot, lambda: log.is_vertical_scroll_end)
        monkeypatch.setattr(log, "clear", lambda: cleared.append(1))
        tell(working, kind="warning", message="first")
        await until(pilot, lambda: "first" in text_of(app))
        await pilot.press("pageup")
        await until(pilot, lambda: "first" not in text_of(app))
        before = seen(app)
        tell(working, kind="warning", message="second")
        await until(pilot, lambda: "second" in log.lines[-1].text)
        await pilot.pause(0.3)
        assert seen(app) == before
        await pilot.press("end")
        tell(working, kind="warning", message="third")
        await until(pilot, lambda: "third" in text_of(app) and len(log.lines) == 1000)

    drive(scenario, run=working)
    assert not cleared


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (50, 16)])
def test_a_failure_and_its_hint_are_seen(make_run, size):
    run = make_run("failed", until=TRAINING)
    tell(run, kind="run_failed", message="memory ran out", hint="use a smaller batch", exit_code=4)

    async def scenario(app, pilot):
        await until(pilot, lambda: "failed: r tries again" in text_of(app))
        assert size[0] < 76 or "→ use a smaller batch" in text_of(app)
        await pilot.press("5")
        await until(pilot, lambda: "failed: memory ran out" in text_of(app) and "→ use a smaller batch" in text_of(app))

    drive(scenario, run=run, size=size)


@pytest.mark.parametrize(("key", "size", "last"), [("1", (80, 14), "★ iteration 1"), ("4", (50, 16), "runs/done")])
def test_keys_reach_the_end_of_a_panel(done, key, size, last):
    async def scenario(app, pilot):
        await pilot.press(key)
        await pilot.pause(0.3)
        assert last not in text_of(app)
        await pilot.press(*["pagedown"] * 5)
        await until(pilot, lambda: last in text_of(app))
        await pilot.press(*["pageup"] * 5)
        await until(pilot, lambda: last not in text_of(app))

    drive(scenario, run=done, size=size)


def test_the_system_is_asked_at_once(working, monkeypatch):
    answer, stats = threading.Event(), ProcessStats(4711, 1 << 30, 99.0)
    monkeypatch.setattr("tspin_mlx.tui.panes.system.REFRESH_S", 1000.0)
    monkeypatch.setattr("tspin_mlx.tui.panes.system.process_stats", lambda _: answer.wait(10) and stats)

    async def scenario(app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: "asking the system …" in text_of(app))
        answer.set()
        await until(pilot, lambda: "4711" in text_of(app))

    drive(scenario, run=working)


def test_events_with_steps(done):
    async def scenario(app, pilot):
        await pilot.press("5")
        await pilot.pause(0.3)
        assert "step 12/12" not in text_of(app)
        await pilot.press("t")
        await pilot.pause(0.3)
        await pilot.press("end")
        log = app.screen.query_one("#log")
        assert any("step 12/12" in line.text for line in log.lines)

    drive(scenario, run=done)
