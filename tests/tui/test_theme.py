"""Keys, help, colours and sizes of all screens: driven by Textual's pilot on runs that no model has made."""

import asyncio
import os
import re
from pathlib import Path

import pytest
from textual.color import Color
from textual.widgets import Input

from tests.tui.driver import drive, text_of, until
from tspin_mlx.base.errors import UsageError
from tspin_mlx.tui.keys import KEYS, keymap_path, load_keymap
from tspin_mlx.tui.screens.help import HelpScreen
from tspin_mlx.tui.screens.home import HomeScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.screens.stop_dialog import StopDialog
from tspin_mlx.tui.screenshot import screenshot
from tspin_mlx.tui.theme import DARK, LIGHT, palette
from tspin_mlx.tui.widgets.chart import ChartView
from tspin_mlx.tui.widgets.key_line import KeyLine


def test_nothing_blinks(done):
    async def scenario(app, pilot):
        lines = []
        for key in ("2", "f", "escape", "e", "escape", "c"):
            await pilot.press(key)
            lines += app.screen.query(Input)
        assert len(lines) > 10 and not any(line.cursor_blink for line in lines)

    drive(scenario, run=done)


def test_help_is_about_the_focus(done):
    async def scenario(app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "log π(y)" in text_of(app) and "Average over twice as many steps" in text_of(app)
        await pilot.press("escape", "2", "f1")
        assert "Every metric" in text_of(app) and "Logarithmic" in text_of(app)
        await pilot.press("question_mark")
        assert isinstance(app.screen, RunScreen)

    drive(scenario, run=done)


def test_the_palette_knows_what_can_be_done_here(done):
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


def test_a_picture_of_the_screen_is_saved_and_needs_nothing_else(done, tmp_path):
    async def scenario(app, pilot):
        app.save_svg()

    drive(scenario, run=done)
    (saved,) = tmp_path.glob("*.svg")
    content = saved.read_text()
    assert "current" in content and "http" not in content.replace("http://www.w3.org/2000/svg", "")


def test_a_crash_tells_no_secrets(make_run, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "canary")

    def fail():
        token, surroundings = os.environ["HF_TOKEN"], dict(os.environ)
        raise RuntimeError(f"broken {len(token)}\x1b[2J [/foo]" if surroundings else "")

    async def scenario(app, pilot):
        app.action_help = fail
        await pilot.press("question_mark")

    with pytest.raises(RuntimeError):
        drive(scenario)
    told = capsys.readouterr().err
    assert "in fail" in told and "broken 6[2J [/foo]" in told and "training continues" in told
    assert "canary" not in told and "\x1b[2J" not in told


def test_keys_can_be_changed_by_their_ids(done, tmp_path, monkeypatch):
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


def test_the_keys_of_the_question_when_to_stop_can_be_changed(working, tmp_path, monkeypatch):
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
def test_wrong_keys_are_refused_and_told(make_run, tmp_path, monkeypatch, text, message):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keymap_path().parent.mkdir()
    keymap_path().write_text(text)
    with pytest.raises(UsageError, match=message):
        load_keymap(keymap_path())

    async def scenario(app, pilot):
        await until(pilot, lambda: any(message in told.message for told in app._notifications))

    drive(scenario)


def test_keys_may_change_places(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text("stop = 'r'\nresume = 's'\ndetach = 'q,ctrl+d'\n")
    assert load_keymap(path) == {"stop": "r", "resume": "s", "detach": "q,ctrl+d"}
    path.write_text("mark = 'i'\nstop-now = 'q'\n")  # what is asked in a dialog hides nothing behind it
    assert load_keymap(path) == {"mark": "i", "stop-now": "q"}


def test_every_key_is_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "tui.md").read_text()
    assert not [name for name in KEYS if f"`{name}`" not in text]


#: What keeps the key of one of our actions, on purpose: of Textual's, what the focus itself scrolls by.
GIVES_WAY = {"quit": "detach", "page-up": "page_up", "page-down": "page_down"}


def hidden(screen):
    """Our actions that a key does not do where the focus is, with what it does instead."""
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


def test_every_line_of_keys_fits_and_has_help(done):
    for size in ((120, 36), (80, 24), (50, 16)):

        async def scenario(app, pilot, size=size):
            for key in "12345":
                await pilot.press(key)
                await pilot.pause(0.1)
                line = text_of(app).splitlines()[-1]
                assert "? help" in line and len(line.rstrip()) <= size[0], (size, key)

        drive(scenario, run=done, size=size)


def test_a_click_on_a_key_or_a_tab_does_it(done):
    async def scenario(app, pilot):
        await pilot.click("#tabs", offset=(19, 0))
        assert app.screen.pane_name == "metrics"
        line = app.screen.query_one(KeyLine)
        start = next(start for start, _, action, _ in line._spans if action == "replay")
        await pilot.click(KeyLine, offset=(start + 2, 0))
        assert "replay at" in text_of(app)

    drive(scenario, run=done)


def test_resizing_to_a_small_screen_and_back_breaks_nothing(done):
    async def scenario(app, pilot):
        for key in "12345":
            await pilot.press(key)
            await pilot.pause(0.2)
            before = text_of(app)
            for size in ((50, 16), (20, 5), (80, 24), (120, 36)):
                await pilot.resize_terminal(*size)
                await pilot.pause(0.2)
            assert text_of(app) == before, key

    drive(scenario, run=done)


def contrast(one, other):
    """The contrast ratio of two colours as WCAG defines it, 1 to 21."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [part / 255 for part in Color.parse(colour).rgb]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_all_colours_stand_out(make_run, monkeypatch, dark):
    monkeypatch.setenv("COLORTERM", "truecolor")

    async def scenario(app, pilot):
        if not dark:
            app.theme = LIGHT.name
        ground = app.current_theme.background
        colours = palette(app)
        for colour in (colours.plain, colours.dim, *colours.lines):
            assert contrast(colour, ground) >= 4.5, colour
        assert len(colours.bands) == 3
        for colour in (*colours.lines[:2], colours.plain):
            for band in colours.bands:
                assert contrast(colour, band) >= 3.0, (colour, band)

    drive(scenario)


def test_other_colours_are_everywhere_at_once(done, monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")

    async def scenario(app, pilot):
        colours = palette(app)
        dark = {colours.plain, colours.dim, colours.mark, *colours.lines, DARK.success, DARK.warning, DARK.background}
        for key in ("1", "2", "3", "4", "5", "space", "escape", "v", "escape", "n"):
            await pilot.press(key)
            await pilot.pause(0.4)
            app.theme = LIGHT.name
            await until(pilot, lambda: not [colour for colour in dark if colour in screenshot(app)])
            app.theme = DARK.name
            await pilot.pause(0.4)

    drive(scenario, run=done)


@pytest.mark.parametrize(("name", "size"), [("120x36", (120, 36)), ("80x24", (80, 24)), ("50x16", (50, 16))])
def test_the_advantage_screen(working, monkeypatch, same_as_kept, name, size):
    _snapshot(working, monkeypatch, same_as_kept, name, size)


def test_the_advantage_screen_in_light_colours(working, monkeypatch, same_as_kept):
    _snapshot(working, monkeypatch, same_as_kept, "80x24-light", (80, 24), light=True)


def test_the_advantage_screen_without_colours(working, monkeypatch, same_as_kept):
    monkeypatch.setenv("NO_COLOR", "1")
    _snapshot(working, monkeypatch, same_as_kept, "80x24-no-colour", (80, 24))


def _snapshot(run, monkeypatch, same_as_kept, name, size, light=False):
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")

    async def scenario(app, pilot):
        if light:
            app.theme = LIGHT.name
        await until(pilot, lambda: "6/12" in text_of(app))
        await pilot.pause(0.4)
        same_as_kept(f"screen-{name}.svg", screenshot(app))

    drive(scenario, run=run, size=size)


def test_256_colours_have_grey_bands_and_16_have_none(make_run, monkeypatch):
    monkeypatch.delenv("COLORTERM", raising=False)
    for term, count in (("xterm-256color", 3), ("xterm", 0)):
        monkeypatch.setenv("TERM", term)

        async def scenario(app, pilot, count=count):
            bands = palette(app).bands
            assert len(bands) == count
            assert all(band[1:3] == band[3:5] == band[5:7] for band in bands)

        drive(scenario)


def test_the_chart_can_be_used_alone(monkeypatch):
    import numpy as np
    from textual.app import App

    from tspin_mlx.view.chart import Plot, Series

    class Alone(App):
        def compose(self):
            yield ChartView()

    async def told():
        app = Alone()
        async with app.run_test(size=(48, 14)) as pilot:
            app.query_one(ChartView).plot = Plot((Series("a", np.arange(100.0)),))
            await pilot.pause()
            return text_of(app)

    assert "━━ a" in asyncio.run(told())
