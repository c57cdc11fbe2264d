"""The forms of the app, new run and export: what they show, and the commands that they start."""

import asyncio
import json
import sys
import threading
from typing import get_args

import pytest
from textual.widgets import Input

from tests.tui.driver import TRAINING, drive, text_of, until
from tspin_mlx.cli.commands_share import ExportFormat
from tspin_mlx.runs.event_log import view_of
from tspin_mlx.tui.screens.export import ExportScreen
from tspin_mlx.tui.screens.help import HelpScreen
from tspin_mlx.tui.screens.home import HomeScreen
from tspin_mlx.tui.screens.new_run import NewRunScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.state import processes
from tspin_mlx.tui.state.draft import Draft, latest_speed, overrides_of, preview_draft
from tspin_mlx.tui.state.processes import CommandResult, run_command, stream_command
from tspin_mlx.view.estimate import estimate, speed_of

#: Does what ``tspin-mlx`` would do with the same words, as far as the screens look at it.
COMMAND = r"""
import json, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\n")
if "broken" in " ".join(words):
    sys.exit("error: recipe:3: unknown key\n  → did you mean epochs?")
if words[0] == "plan":
    print(open({plan!r}).read())
elif words[0] == "run":
    print(json.dumps({{"run": {run!r}, "started": "training.iterations=9" not in words}}))
else:
    print("made exports/x\x1b[2J [/foo]")
    print("a note", file=sys.stderr)
    sys.exit(5 if "--yes" in words else 0)
"""


@pytest.fixture
def commands(make_run, tmp_path, monkeypatch):
    """A command line of our own; gives what it was asked."""
    run = make_run("made", until=TRAINING)
    asked = tmp_path / "asked.jsonl"
    script = tmp_path / "fake.py"
    script.write_text(COMMAND.format(log=str(asked), plan=str(run.path / "plan.json"), run=str(run.path)))
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, str(script)])
    return lambda: [json.loads(line) for line in asked.read_text().splitlines()]


# --- a new run


def test_a_new_run_is_planned_while_it_is_typed_and_started(commands, tmp_path):
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


def test_a_run_that_starts_is_shown_whatever_lies_over_its_form(commands, monkeypatch):
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


def test_a_slow_look_does_not_replace_a_newer_one(commands, monkeypatch):
    seen, late = [], threading.Event()

    def slowly(draft):
        if draft.recipe == "slow.yaml":
            late.wait(10)
        return preview_draft(draft)

    monkeypatch.setattr("tspin_mlx.tui.state.draft.preview_draft", slowly)
    monkeypatch.setattr(NewRunScreen, "_show_preview", lambda screen, preview, speed: seen.append(preview.error))

    async def scenario(app, pilot):
        await pilot.press("n")
        recipe = app.screen.query_one("#recipe", Input)
        recipe.value = "slow.yaml"
        await pilot.pause(1.0)
        recipe.value = "waves.yaml"
        await until(pilot, lambda: seen and not seen[-1])
        late.set()
        await pilot.pause(0.5)

    drive(scenario)
    assert not any(seen)


def test_a_name_that_is_taken_by_a_finished_run_is_told(commands):
    async def scenario(app, pilot):
        await pilot.press("n")
        app.screen.query_one("#iterations", Input).value = "9"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "already exists and is finished." in text_of(app))
        assert isinstance(app.screen, NewRunScreen)

    drive(scenario)


def test_what_is_wrong_is_told_and_nothing_starts(commands):
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


def test_a_file_is_picked(commands, tmp_path):
    async def scenario(app, pilot):
        await pilot.press("n", "down", "down", "ctrl+o")
        await until(pilot, lambda: "train.jsonl" in text_of(app) and "waves.yaml" not in text_of(app))
        tree = app.screen.query_one("_Files")
        await until(pilot, lambda: len(tree.root.children) > 1)
        line = next(node.line for node in tree.root.children if "train.jsonl" in str(node.label))
        tree.move_cursor_to_line(line)
        await pilot.press("enter")
        assert app.screen.query_one("#train", Input).value == str(tmp_path / "train.jsonl")

    drive(scenario)


def test_a_fork_begins_with_the_settings_of_its_run(commands, make_run):
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


def test_a_draft_is_looked_at_without_a_model(make_run, tmp_path):
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
    speed = speed_of(view_of(run.events_path), run.plan_row)
    assert speed.train_s == pytest.approx(0.5 / 4) and speed.peak_bytes == 2_000_000_000
    # Two generations of 8 answers and four evaluations of 3, 5 s each.
    assert speed.answer_s == pytest.approx((2 * 5 / 8 + 4 * 5 / 3) / 6)
    cost = estimate(run.plan_row, (8.0, 4.0), speed)
    steps = {phase.kind: phase.updates.steps for phase in run.plan().phases if phase.updates}
    assert cost.steps == steps["warmup"] + 2 * steps["train"]
    assert cost.answers == 2 * 8 + 4 * 3
    assert cost.train_tokens == 4 * 3 * (steps["warmup"] + 2 * steps["train"] + 3 * steps["train"])
    assert cost.seconds == pytest.approx(cost.steps * 4 * speed.train_s + cost.answers * speed.answer_s)
    assert estimate(run.plan_row, None, None).seconds is None
    found, adapter = latest_speed(run.path.parent, "tiny")
    assert found == speed and adapter == 1000
    assert latest_speed(run.path.parent, "another") is None


# --- export


def test_the_form_makes_the_command_and_shows_what_it_says(commands, make_run):
    run = make_run("done")

    async def scenario(app, pilot):
        await pilot.press("e")
        assert isinstance(app.screen, ExportScreen)
        assert "$ tspin-mlx export" in text_of(app)
        await pilot.press("right")
        await until(pilot, lambda: "$ tspin-mlx fuse" in text_of(app))
        await pilot.press("left", "down", *"3", "down", "right", "down", *"out")
        await until(pilot, lambda: "--out out" in " ".join(app.screen.arguments))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "done" in text_of(app) and "a note" in text_of(app))
        assert "made exports/x[2J [/foo]" in text_of(app)

    drive(scenario, run=run)
    assert commands()[-1] == ["export", str(run.path), "--format", "peft", "--iteration", "3", "--out", "out"]


@pytest.mark.parametrize("size", [(120, 36), (50, 16)])
def test_the_form_has_every_format_of_the_command(commands, make_run, size):
    run = make_run("done")

    async def scenario(app, pilot):
        await pilot.press("e")
        await until(pilot, lambda: all(name in text_of(app) for name in get_args(ExportFormat)))
        assert app.screen.query_one("#iteration", Input).placeholder == "best"
        await pilot.press("down", "down", "left")
        await until(pilot, lambda: app.screen.arguments[-2:] == ["--format", "triplets"])  # its path may be long
        assert app.screen.query_one("#iteration", Input).placeholder == "all"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "a note" in text_of(app) and not app.screen.is_busy)

    drive(scenario, run=run, size=size)
    assert commands()[-1] == ["export", str(run.path), "--format", "triplets"]


def test_an_upload_shows_its_files_and_is_asked_about(commands, make_run):
    run = make_run("done")

    async def scenario(app, pilot):
        await pilot.press("e", "left", "ctrl+s")
        await until(pilot, lambda: "name the repository first" in text_of(app))
        await pilot.press("down", *"me/it", "down", "right", "ctrl+s")
        await until(pilot, lambda: "Press the same key again to upload these files." in text_of(app))
        assert "a note" in text_of(app)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "failed with exit code 5" in text_of(app))

    drive(scenario, run=run)
    pushed = [words for words in commands() if words[0] == "push"]
    assert pushed == [["push", str(run.path), "me/it", "--public", how] for how in ("--dry-run", "--yes")]


def test_processes_tell_how_they_ended(commands):
    result = asyncio.run(run_command(["plan", "broken"]))
    assert (result.exit_code, result.error_message) == (1, "recipe:3: unknown key\n  → did you mean epochs?")
    assert CommandResult(3, "", "").error_message == "the command failed with exit code 3"

    lines = []
    assert asyncio.run(stream_command(["push", "--yes"], lines.append)) == 5
    assert "a note" in lines


def test_a_process_that_is_no_longer_wanted_while_it_starts_is_ended(monkeypatch):
    create, started = asyncio.create_subprocess_exec, []

    async def slowly(*command, **options):
        started.append(await create(*command, **options))
        await asyncio.sleep(0.2)
        return started[0]

    async def scenario():
        task = asyncio.ensure_future(processes.spawn([sys.executable, "-c", "import time; time.sleep(600)"]))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    asyncio.run(scenario())
    assert started[0].returncode is not None


SLOW_TO_END = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.4), exit()))
print("ready", flush=True)
time.sleep(600)
"""


def test_a_process_is_waited_for_even_if_that_is_cancelled():
    async def scenario():
        process = await processes.spawn([sys.executable, "-c", SLOW_TO_END])
        await process.stdout.readline()
        task = asyncio.ensure_future(processes.terminate(process))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return process.returncode

    assert asyncio.run(scenario()) == 0
