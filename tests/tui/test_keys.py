"""Key bindings: the keymap file, the footer, the help screen and the command palette, under Textual's pilot."""

import re
from pathlib import Path

import pytest

from tests.tui.driver import drive, text_of, until
from tspin_mlx.base.errors import UsageError
from tspin_mlx.tui.keys import KEYS, keymap_path, load_keymap
from tspin_mlx.tui.screens.help import HelpScreen
from tspin_mlx.tui.screens.home import HomeScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.screens.stop_dialog import StopDialog
from tspin_mlx.tui.theme import LIGHT
from tspin_mlx.tui.widgets.key_line import KeyLine


def test_help_is_about_the_focused_widget(done):
    async def scenario(app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "log π(y)" in text_of(app) and "Average over twice as many steps" in text_of(app)
        await pilot.press("escape", "2", "f1")
        assert "Every metric" in text_of(app) and "Logarithmic" in text_of(app)
        await pilot.press("question_mark")
        assert isinstance(app.screen, RunScreen)

    drive(scenario, run=done)


def test_the_command_palette_lists_the_actions_of_the_screen(done):
    async def scenario(app, pilot):
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Replay", "Export", "Chat", "Detach", "Light theme", "Save a screenshot"} <= set(titles)
        await pilot.press("ctrl+p")
        await pilot.pause(0.2)
        await pilot.press(*"light")
        await pilot.pause(0.5)
        await pilot.press("enter", "enter")
        await until(pilot, lambda: app.theme == LIGHT.name)

    drive(scenario, run=done)


def test_the_keymap_changes_keys_by_action_id(done, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keymap_path().parent.mkdir()
    keymap_path().write_text('replay = "x"\n')

    async def scenario(app, pilot):
        await pilot.press("p")
        assert "replay at" not in text_of(app)
        assert "x replay" in text_of(app)
        await pilot.press("x")
        assert "replay at" in text_of(app)

    drive(scenario, run=done)


def test_the_keys_of_the_stop_dialog_can_be_changed(working, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keymap_path().parent.mkdir()
    keymap_path().write_text('stop-now = "x"\n')
    asked = []
    monkeypatch.setattr("tspin_mlx.tui.screens.run.request_stop", lambda run, when: asked.append(when))

    async def scenario(app, pilot):
        await pilot.press("s")
        assert re.search(r"x +now +falls back to the last checkpoint", text_of(app))
        assert {"stop-iteration", "stop-step", "stop-now", "back"} == {
            binding.id for _, binding, _, _ in app.screen.active_bindings.values() if "choose" in binding.action
        }
        await pilot.press("n")
        assert isinstance(app.screen, StopDialog)
        await pilot.press("x")
        assert isinstance(app.screen, RunScreen)

    drive(scenario, run=working)
    assert asked == ["now"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stopp = 'x'", "no action"),
        ("stop = 1", "must be"),
        ("[", "cannot be read"),
        ("stop = 'f5,r'", "stop and resume would share the key r"),
        ("new = 'n'\nstop = 'n'", "stop and new would share the key n"),
        ("stop-step = 'i'", "stop-step and stop-iteration would share the key i"),
        ("stop-now = 'escape'", "stop-now and back would share the key escape"),
    ],
)
def test_an_invalid_keymap_is_rejected_and_reported(make_run, tmp_path, monkeypatch, text, message):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keymap_path().parent.mkdir()
    keymap_path().write_text(text)
    with pytest.raises(UsageError, match=message):
        load_keymap(keymap_path())

    async def scenario(app, pilot):
        await until(pilot, lambda: message in notification_of(app))

    drive(scenario)


def notification_of(app):
    """Return the text on the screen without line breaks and the borders of notifications."""
    return " ".join(text_of(app).replace("▌", " ").split())


def test_actions_may_swap_keys(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text("stop = 'r'\nresume = 's'\ndetach = 'q,ctrl+d'\n")
    assert load_keymap(path) == {"stop": "r", "resume": "s", "detach": "q,ctrl+d"}
    path.write_text("mark = 'i'\nstop-now = 'q'\n")  # the stop dialog may share keys with the screen behind it
    assert load_keymap(path) == {"mark": "i", "stop-now": "q"}


def test_every_action_id_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "tui.md").read_text()
    assert not [name for name in KEYS if f"`{name}`" not in text]


#: Our actions that give way to another one on purpose: to "detach", or to the scrolling of Textual's own widgets.
GIVES_WAY = {"quit": "detach", "page-up": "page_up", "page-down": "page_down"}


def hidden(screen):
    """Yield our actions whose key does something else where the focus is, and what it does instead."""
    chain = [item for _, bindings in screen._modal_binding_chain for item in bindings]
    first = {}
    for key, binding in sorted(chain, key=lambda item: not item[1].priority):
        does = first.setdefault(key, binding)
        if binding.id in KEYS and binding.id != does.id:
            yield binding.id, does.id or does.action


def test_no_two_actions_of_a_screen_share_a_key(make_run, done):
    make_run("another")  # to compare with

    async def scenario(app, pilot):
        screens = {type(app.screen)}
        for key in (*"12345", "f", "e", "v", "f1", "c", "d"):
            await pilot.press(key)
            await pilot.pause(0.2)
            await until(pilot, lambda: app.screen.focus_chain)
            screens.add(type(app.screen))
            for part in app.screen.focus_chain:
                app.screen.set_focus(part)
                assert set(hidden(app.screen)) <= GIVES_WAY.items(), (key, part)
                bound = {binding.id for _, binding, _, _ in app.screen.active_bindings.values() if binding.id}
                assert bound <= KEYS.keys() | {"command-palette"}
            if not isinstance(app.screen, RunScreen | HomeScreen):
                await app.pop_screen()
        assert len(screens) == 7

    drive(scenario, run=done)


def test_the_footer_fits_and_always_has_help(done):
    for size in ((120, 36), (80, 24), (50, 16)):

        async def scenario(app, pilot, size=size):
            for key in "12345":
                await pilot.press(key)
                await pilot.pause(0.1)
                line = text_of(app).splitlines()[-1]
                assert "? help" in line and len(line.rstrip()) <= size[0], (size, key)

        drive(scenario, run=done, size=size)


def test_a_click_on_a_key_or_a_tab_runs_its_action(done):
    async def scenario(app, pilot):
        await pilot.click("#tabs", offset=(19, 0))
        assert app.screen.pane_name == "metrics"
        start = text_of(app).splitlines()[-1].index("p replay")
        await pilot.click(KeyLine, offset=(start, 0))
        assert "replay at" in text_of(app)

    drive(scenario, run=done)
