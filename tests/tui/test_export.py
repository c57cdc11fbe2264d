"""The export form: the commands it builds, and their output."""

from typing import get_args

import pytest
from textual.widgets import Input

from tests.tui.driver import drive, text_of, until
from tspin_mlx.cli.commands.export import ExportFormat
from tspin_mlx.tui.screens.export import ExportScreen


def test_the_form_builds_the_command_and_shows_its_output(commands, make_run):
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


def test_an_upload_shows_its_files_and_has_to_be_confirmed(commands, make_run):
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
