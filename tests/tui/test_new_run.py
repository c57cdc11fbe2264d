"""The form for a new run: preview, plan, estimates, start and fork."""

import threading

import pytest
from textual.widgets import DirectoryTree, Input

from tests.tui.driver import drive, text_of, until
from tspin_mlx.runs.event_log import view_of
from tspin_mlx.tui.screens.help import HelpScreen
from tspin_mlx.tui.screens.home import HomeScreen
from tspin_mlx.tui.screens.new_run import NewRunScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.state.draft import Draft, latest_speed, overrides_of, preview_draft
from tspin_mlx.tui.state.processes import run_command
from tspin_mlx.view.estimate import estimate, speed_of


def test_a_new_run_is_planned_while_typing_and_started(commands, tmp_path):
    async def scenario(app, pilot):
        await pilot.press("n")
        assert isinstance(app.screen, NewRunScreen)
        app.screen.query_one("#recipe", Input).value = "waves.yaml"
        app.screen.query_one("#iterations", Input).value = "2"
        await until(pilot, lambda: "8 training, 3 validation" in text_of(app) and "say yes" in text_of(app))
        seen = text_of(app)
        assert "train.jsonl:1" in seen and "→ yes" in seen
        assert "optimiser steps" in seen and "judging by the run made" in seen
        assert "$ tspin-mlx run waves.yaml training.iterations=2" in seen
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))

    drive(scenario)
    assert ["run", "waves.yaml", "training.iterations=2", "--detach", "--json"] in commands()


def test_a_started_run_is_shown_whatever_covers_its_form(commands, monkeypatch):
    async def scenario(app, pilot):
        async def slowly(arguments):
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            return await run_command(arguments)

        await pilot.press("n")
        app.screen.query_one("#recipe", Input).value = "waves.yaml"
        monkeypatch.setattr("tspin_mlx.tui.screens.new_run.run_command", slowly)
        await pilot.press("ctrl+s", "f1")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)

    drive(scenario)


def test_a_slow_preview_does_not_replace_a_newer_one(commands, monkeypatch):
    release, returned = threading.Event(), threading.Event()

    def slowly(draft):
        if draft.recipe != "slow.yaml":
            return preview_draft(draft)
        release.wait(10)
        preview = preview_draft(draft)
        assert "slow.yaml: no such recipe file" in preview.error
        returned.set()
        return preview

    monkeypatch.setattr("tspin_mlx.tui.state.draft.preview_draft", slowly)

    async def scenario(app, pilot):
        await pilot.press("n")
        recipe = app.screen.query_one("#recipe", Input)
        recipe.value = "slow.yaml"
        await pilot.pause(1.0)
        recipe.value = "waves.yaml"
        await until(pilot, lambda: "say yes" in text_of(app))
        release.set()
        await until(pilot, returned.is_set)
        await pilot.pause(0.5)
        assert "say yes" in text_of(app) and "no such recipe file" not in text_of(app)

    drive(scenario)


def test_a_name_taken_by_a_finished_run_is_reported(commands):
    async def scenario(app, pilot):
        await pilot.press("n")
        app.screen.query_one("#iterations", Input).value = "9"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "already exists and is finished." in text_of(app))
        assert isinstance(app.screen, NewRunScreen)

    drive(scenario)


def test_errors_are_shown_and_nothing_starts(commands):
    async def scenario(app, pilot):
        await pilot.press("n")
        app.screen.query_one("#recipe", Input).value = "nowhere.yaml"
        await until(pilot, lambda: "nowhere.yaml: no such recipe file" in text_of(app))
        app.screen.query_one("#recipe", Input).value = "waves.yaml"
        app.screen.query_one("#name", Input).value = "broken"
        await until(pilot, lambda: "did you mean epochs?" in text_of(app))
        await pilot.press("ctrl+s")
        await pilot.pause(0.5)
        await until(pilot, lambda: "did you mean epochs?" in text_of(app))
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)

    drive(scenario)


def test_the_file_picker_fills_the_field(commands, tmp_path):
    async def scenario(app, pilot):
        await pilot.press("n", "down", "down", "ctrl+o")
        await until(pilot, lambda: "train.jsonl" in text_of(app) and "waves.yaml" not in text_of(app))
        tree = app.screen.query_one(DirectoryTree)
        await until(pilot, lambda: len(tree.root.children) > 1)
        line = next(node.line for node in tree.root.children if "train.jsonl" in str(node.label))
        tree.move_cursor_to_line(line)
        await pilot.press("enter")
        assert app.screen.query_one("#train", Input).value == str(tmp_path / "train.jsonl")

    drive(scenario)


def test_a_fork_starts_with_the_settings_of_its_run(commands, make_run):
    run = make_run("origin", overrides=["training.learning_rate=0.003"])
    recipe, changes = overrides_of(run)
    assert recipe.endswith("waves.yaml")
    assert set(changes) == {"run.name=origin", "training.learning_rate=0.003"}

    async def scenario(app, pilot):
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "Fork of origin" in text_of(app))
        app.screen.query_one("#rate", Input).value = "0.1"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.run.name == "made")

    drive(scenario, run=run)
    words = next(words for words in commands() if words[0] == "run")
    assert words[2:] and {"training.learning_rate=0.1", "run.name=origin", "--fork", "origin-2"} <= set(words)


def test_a_draft_is_previewed_without_a_model(make_run, tmp_path):
    make_run()
    preview = preview_draft(Draft(str(tmp_path / "waves.yaml")))
    assert preview.rows[0] == ("train.jsonl:1", "say yes", "yes") and preview.characters == (7.0, 3.0)
    assert preview.defaults["training.batch_size"] == 4
    wrong = preview_draft(Draft(str(tmp_path / "waves.yaml"), ("training.epocs=1",)))
    assert "unknown key training.epocs" in wrong.error and "epochs" in wrong.error and wrong.defaults
    (tmp_path / "train.jsonl").write_text('{"prompt": "x"}\nnot json\n')
    assert [row[2] for row in preview_draft(Draft(str(tmp_path / "waves.yaml"))).rows] == ["", ""]
    remote = preview_draft(Draft(str(tmp_path / "waves.yaml"), ("data.train=hub:a/b:train",)))
    assert "read when the run is created" in remote.rows[0][1]


def test_estimates_by_hand(make_run):
    run = make_run(steps=12)
    speed = speed_of(view_of(run.events_path), run.outline)
    assert speed.train_s == pytest.approx(0.5 / 4) and speed.peak_bytes == 2_000_000_000
    # Two generations of 8 answers and four evaluations of 3, 5 s each.
    assert speed.answer_s == pytest.approx((2 * 5 / 8 + 4 * 5 / 3) / 6)
    cost = estimate(run.outline, (8.0, 4.0), speed)
    steps = {phase.kind: phase.train.steps for phase in run.plan().train_phases}
    assert cost.steps == steps["warmup"] + 2 * steps["train"]
    assert cost.answers == 2 * 8 + 4 * 3
    assert cost.train_tokens == 4 * 3 * (steps["warmup"] + 2 * steps["train"] + 3 * steps["train"])
    assert cost.seconds == pytest.approx(cost.steps * 4 * speed.train_s + cost.answers * speed.answer_s)
    assert estimate(run.outline, None, None).seconds is None
    latest, adapter_bytes = latest_speed(run.path.parent, "tiny")
    assert latest == speed and adapter_bytes == 1000
    assert latest_speed(run.path.parent, "another") is None
