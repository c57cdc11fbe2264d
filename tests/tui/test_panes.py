"""The panes of the run screen: charts, metrics, samples, system and events, under Textual's pilot."""

import json
import threading
from dataclasses import replace

import pytest
from textual.widgets import DataTable, RichLog

from tests.tui.driver import append_event, drive, text_of, until
from tspin_mlx.runs.samples import held_out
from tspin_mlx.tui.panes.metrics import MetricsGrid
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.state.machine_stats import ProcessStats
from tspin_mlx.tui.widgets.chart import ChartView


def test_each_pane_has_its_key(done):
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


def test_samples_can_be_stepped_sorted_and_switched_to_the_training_data(done):
    async def scenario(app, pilot):
        await pilot.press("3")
        await pilot.pause(0.3)

        def column(index):
            return [str(cell) for cell in app.screen.query_one(DataTable).get_column_at(index)]

        assert "answer of iterations/001" in text_of(app) and "answer of iterations/000" in text_of(app)
        await pilot.press("left")
        assert "‹ iteration 0 ›" in text_of(app) and "answer of iterations/001" not in text_of(app)
        await pilot.press("right", "right")
        assert "iteration 1" in text_of(app)
        assert column(1) == ["−5.00", "+3.00", "+0.50"]
        await pilot.press("o")
        assert column(1) == ["−5.00", "+0.50", "+3.00"]
        await pilot.press("o")
        assert column(2) == ["−3.00", "−0.50", "+2.00"]
        await pilot.press("down")
        await pilot.press("t")
        assert "8 trained on" in text_of(app) and "please do train number" in text_of(app)

    drive(scenario, run=done)


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (50, 16)])
def test_keys_scroll_to_the_end_of_a_long_answer(done, monkeypatch, size):
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
        await pilot.press("tab", "up")  # the answers to another prompt start at the top
        assert app.screen.query_one(DataTable).cursor_row == 1
        await until(pilot, lambda: "the end" not in text_of(app) and "current" in text_of(app))
        assert app.screen.query_one("#samples-detail").scroll_offset.y == 0

    drive(scenario, run=done, size=size)


def test_new_events_are_appended_to_a_long_log(working, monkeypatch):
    step = json.loads(working.events_path.read_text().splitlines()[-1]) | {"steps": 2000}
    for number in range(7, 1200):
        append_event(working, **step | {"step": number, "time": 1_700_001_000.0 + number})
    cleared = []

    def seen(app):
        return [line[:-3] for line in text_of(app).splitlines()[5:-1]]  # without the scroll bar

    async def scenario(app, pilot):
        await pilot.press("5", "t")
        log = app.screen.query_one(RichLog)
        await until(pilot, lambda: any("step 1199/2000" in line.text for line in log.lines))
        await until(pilot, lambda: log.is_vertical_scroll_end)
        monkeypatch.setattr(log, "clear", lambda: cleared.append(1))
        append_event(working, kind="warning", message="first")
        await until(pilot, lambda: "first" in text_of(app))
        await pilot.press("pageup")
        await until(pilot, lambda: "first" not in text_of(app))
        before = seen(app)
        append_event(working, kind="warning", message="second")
        await until(pilot, lambda: "second" in log.lines[-1].text)
        await pilot.pause(0.3)
        assert seen(app) == before
        await pilot.press("end")
        append_event(working, kind="warning", message="third")
        await until(pilot, lambda: "third" in text_of(app) and len(log.lines) == 1000)

    drive(scenario, run=working)
    assert not cleared


def test_steps_can_be_added_to_the_events(done):
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


@pytest.mark.parametrize(("key", "size", "last"), [("1", (80, 14), "★ iteration 1"), ("4", (50, 16), "runs/done")])
def test_keys_scroll_to_the_end_of_a_panel(done, key, size, last):
    async def scenario(app, pilot):
        await pilot.press(key)
        await pilot.pause(0.3)
        assert last not in text_of(app)
        await pilot.press(*["pagedown"] * 5)
        await until(pilot, lambda: last in text_of(app))
        await pilot.press(*["pageup"] * 5)
        await until(pilot, lambda: last not in text_of(app))

    drive(scenario, run=done, size=size)


def test_process_statistics_are_read_at_once(working, monkeypatch):
    answer, stats = threading.Event(), ProcessStats(4711, 1 << 30, 99.0)
    monkeypatch.setattr("tspin_mlx.tui.panes.system.REFRESH_S", 1000.0)
    monkeypatch.setattr("tspin_mlx.tui.panes.system.process_stats", lambda _: answer.wait(10) and stats)

    async def scenario(app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: "asking the system …" in text_of(app))
        answer.set()
        await until(pilot, lambda: "4711" in text_of(app))

    drive(scenario, run=working)
