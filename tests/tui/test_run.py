"""The run screen: status lines, stop, resume, freeze, replay and detach, under Textual's pilot."""

import json

import pytest

from tests.tui.driver import TRAINING, append_event, drive, text_of, until
from tspin_mlx.base.errors import UsageError
from tspin_mlx.runs.lock import RunLock
from tspin_mlx.tui.screens.home import HomeScreen
from tspin_mlx.tui.screens.new_run import NewRunScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.screens.stop_dialog import StopDialog
from tspin_mlx.tui.state.status import RunStatus, headline
from tspin_mlx.view.run_view import RunView


def test_a_working_run_shows_its_phase_and_what_is_left(working):
    async def scenario(app, pilot):
        await until(pilot, lambda: "▸ train on triplets" in text_of(app))
        seen = text_of(app)
        assert "iteration 1 (2 of 2)" in seen and "6/12" in seen and "left" in seen
        assert "✓ answer the prompts" in seen and "s stop" in seen and "r resume" not in seen

    drive(scenario, run=working)


@pytest.mark.parametrize("size", [(120, 36), (50, 16)])
def test_the_warm_up_is_shown_until_self_play_begins(make_run, size):
    whole = make_run("whole").events_path.read_text().splitlines(keepends=True)
    run = make_run("warm", until="initial/adapter")
    begun = next(i for i, line in enumerate(whole) if '"advantage/current"' in line)

    async def scenario(app, pilot):
        await until(pilot, lambda: "━━ warm-up: NLL of the expert's answers 0.17" in text_of(app))
        assert "no steps yet" not in text_of(app) and "historical" not in text_of(app)
        with run.events_path.open("a") as log:  # the rest of the warm-up, up to the first step of self-play
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
        line = headline(RunStatus(view, state, working.outline, {}), width).plain
        assert line.startswith("househo") and "seed=3     " in line and words[:24] in line
        assert len(line) <= width


def test_a_dead_engine_is_noticed_within_two_seconds(make_run):
    run = make_run("killed", until=TRAINING)
    lock = RunLock.acquire(run.path)

    async def scenario(app, pilot):
        await until(pilot, lambda: "running" in text_of(app))
        lock.close()
        await until(pilot, lambda: "interrupted: r resumes" in text_of(app), seconds=2.5)
        assert "r resume" in text_of(app)

    drive(scenario, run=run)


@pytest.mark.parametrize(("key", "when"), [("i", "iteration"), ("s", "step"), ("n", "now"), ("escape", None)])
def test_stop_asks_when(working, monkeypatch, key, when):
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


def test_a_failed_stop_request_is_reported(working, monkeypatch):
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
        await pilot.press("r")  # does not start a second engine
        assert len(started) == 1

    drive(scenario, run=run)
    started[0].close()


def test_space_freezes_the_screen_and_resumes(working):
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


def test_a_finished_run_is_replayed_at_any_speed(done):
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
def test_detaching_says_that_training_continues(working, key):
    async def scenario(app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, HomeScreen) and "continues in the background" in text_of(app))

    drive(scenario, run=working)


def test_a_new_run_can_be_started_from_the_run_screen(done):
    async def scenario(app, pilot):
        await pilot.press("n")
        assert isinstance(app.screen, NewRunScreen) and app.screen.origin is None
        await pilot.press("escape")
        assert isinstance(app.screen, RunScreen)

    drive(scenario, run=done)


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (50, 16)])
def test_a_failure_and_its_hint_are_shown(make_run, size):
    run = make_run("failed", until=TRAINING)
    append_event(run, kind="run_failed", message="memory ran out", hint="use a smaller batch", exit_code=4)

    async def scenario(app, pilot):
        await until(pilot, lambda: "failed: r tries again" in text_of(app))
        assert size[0] < 76 or "→ use a smaller batch" in text_of(app)
        await pilot.press("5")
        await until(pilot, lambda: "failed: memory ran out" in text_of(app) and "→ use a smaller batch" in text_of(app))

    drive(scenario, run=run, size=size)
