"""The home screen and the compare screen, under Textual's pilot."""

import json
import shutil

import pytest
from textual.widgets import DataTable

from tests.tui.driver import TRAINING, drive, text_of, until
from tspin_mlx.recipe.phase import Outline
from tspin_mlx.tui.screens.compare import CompareScreen, differences
from tspin_mlx.tui.screens.home import HomeScreen
from tspin_mlx.tui.screens.new_run import NewRunScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.state.source import LiveSource


def test_without_runs_the_home_screen_shows_what_to_press(make_run):
    async def scenario(app, pilot):
        await until(pilot, lambda: "No runs here yet" in text_of(app))
        assert "n   start a run" in text_of(app) and "q quit" in text_of(app) and "m mark" not in text_of(app)
        await pilot.press("n")
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("q")

    assert drive(scenario).return_code == 0


def test_home_lists_runs_and_opens_one(make_run):
    make_run("first")
    make_run("second", until=TRAINING)
    (make_run("broken").path / "run.json").write_text("{")

    async def scenario(app, pilot):
        await until(pilot, lambda: "first" in text_of(app))
        seen = text_of(app)
        assert "✓ finished" in seen and "‖ interrupted" in seen and "✗ damaged" in seen
        assert "iteration 1 NLL 1.00" in seen and "▁" in seen
        table = app.screen.query_one(DataTable)
        table.move_cursor(row=table.get_row_index("broken"))
        await pilot.press("enter")
        await until(pilot, lambda: "has changed since" in text_of(app) or "cannot be read" in text_of(app))
        table.move_cursor(row=table.get_row_index("first"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("q")
        assert isinstance(app.screen, HomeScreen)

    drive(scenario)


def test_runs_are_marked_and_compared(make_run):
    for name, rate in (("slow", "1e-5"), ("fast", "1e-3")):
        make_run(name, overrides=[f"training.learning_rate={rate}"])

    async def scenario(app, pilot):
        await until(pilot, lambda: "slow" in text_of(app))
        await pilot.press("m")
        await pilot.press("v")
        await pilot.pause()
        assert isinstance(app.screen, HomeScreen)  # a comparison needs two runs
        await pilot.press("down", "m", "v")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and "learning_rate" in text_of(app))
        seen = text_of(app)
        assert "1e-05" in seen and "0.001" in seen and "batch_size" not in seen
        assert "advantage/current" in seen and "━━ slow" in seen and "━━ fast" in seen
        await pilot.press("right")
        assert "advantage/historical" in text_of(app)
        await pilot.press("left", "left")
        assert "entropy" in text_of(app)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)

    drive(scenario)


def test_compared_runs_that_are_unfinished_are_followed(make_run, working, monkeypatch):
    monkeypatch.setattr("tspin_mlx.tui.screens.compare.REFRESH_S", 0.2)
    make_run("done", overrides=["training.learning_rate=1e-3", "generation.max_tokens=9", "lora.rank=2", "run.seed=5"])
    reads = []

    async def scenario(app, pilot):
        await pilot.press("v")
        await until(pilot, lambda: "━━ working" in text_of(app) and "━━ done" in text_of(app))
        poll = LiveSource.poll
        monkeypatch.setattr(LiveSource, "poll", lambda source: reads.append(source.run.name) or poll(source))
        app.screen.query_one("#compare-below").focus()
        await pilot.press("right", "left", "down", "down")
        at = app.screen.query_one("#compare-below").scroll_offset
        step = json.loads(working.events_path.read_text().splitlines()[-1])
        with working.events_path.open("a") as log:
            log.write(json.dumps(step | {"step": 7, "advantage/current": 123.45}) + "\n")
        await until(pilot, lambda: "━━ working +123.45" in text_of(app))
        assert at.y and app.screen.query_one("#compare-below").scroll_offset == at

    drive(scenario, run=working, size=(50, 16))
    assert set(reads) == {"working"}


@pytest.mark.parametrize("how", ["another format", "removed"])
def test_runs_that_cannot_be_compared_are_reported(make_run, how):
    runs = [make_run(name) for name in ("one", "two")]

    async def scenario(app, pilot):
        await until(pilot, lambda: "one" in text_of(app))
        for run in runs:
            if how == "removed":
                shutil.rmtree(run.path)
            else:
                (run.path / "run.json").write_text('{"format": 0}')
        await pilot.press("v")
        await until(pilot, lambda: "none of these runs can be read" in text_of(app))
        assert isinstance(app.screen, HomeScreen)

    drive(scenario)


def test_long_names_that_begin_alike_stay_distinct(make_run):
    for seed in (1, 2):
        make_run(f"household-commands-anchored-seed-{seed}")

    async def scenario(app, pilot):
        await until(pilot, lambda: "household" in text_of(app))
        assert "red-seed-1" in text_of(app) and "red-seed-2" in text_of(app)
        await pilot.press("v")
        await until(pilot, lambda: "━━ household…red-seed-1" in text_of(app))
        assert "━━ household…red-seed-2" in text_of(app)

    drive(scenario, size=(80, 24))


def test_differences_leave_names_out():
    def plan(name, train, b=1):
        return Outline({"train": train}, (), {"a.b": b, "a.c": 2, "run.name": name})

    assert differences([plan("x", 1), plan("y", 2)]) == {"examples.train": ["1", "2"]}
    assert differences([plan("x", 1, b=None), plan("y", 2)])["a.b"] == ["–", "1"]


def test_resume_from_home_starts_the_engine_and_shows_the_run(make_run, monkeypatch):
    make_run("half", until=TRAINING)
    started = []
    monkeypatch.setattr("tspin_mlx.jobs.control.resume", lambda run: started.append(run.name))

    async def scenario(app, pilot):
        await until(pilot, lambda: "half" in text_of(app))
        await pilot.press("r")
        assert isinstance(app.screen, RunScreen) and started == ["half"]

    drive(scenario)
