"""Themes, snapshots and screen sizes, screenshots and the crash report, under Textual's pilot."""

import asyncio
import os

import pytest
from textual.color import Color
from textual.widgets import Input

from tests.tui.driver import drive, text_of, until
from tspin_mlx.tui.screenshot import screenshot
from tspin_mlx.tui.theme import DARK, LIGHT, palette
from tspin_mlx.tui.widgets.chart import ChartView


def test_nothing_blinks(done):
    async def scenario(app, pilot):
        lines = []
        for key in ("2", "f", "escape", "e", "escape", "c"):
            await pilot.press(key)
            lines += app.screen.query(Input)
        assert len(lines) > 10 and not any(line.cursor_blink for line in lines)

    drive(scenario, run=done)


def test_a_saved_screenshot_is_self_contained(done, tmp_path):
    async def scenario(app, pilot):
        app.save_svg()

    drive(scenario, run=done)
    (saved,) = tmp_path.glob("*.svg")
    content = saved.read_text()
    assert "current" in content and "http" not in content.replace("http://www.w3.org/2000/svg", "")


def test_a_crash_report_shows_no_secrets(make_run, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "canary")

    def fail():
        token, surroundings = os.environ["HF_TOKEN"], dict(os.environ)
        raise RuntimeError(f"broken {len(token)}\x1b[2J [/foo]" if surroundings else "")

    async def scenario(app, pilot):
        app.action_help = fail
        await pilot.press("question_mark")

    with pytest.raises(RuntimeError):
        drive(scenario)
    report = capsys.readouterr().err
    assert "in fail" in report and "broken 6[2J [/foo]" in report and "training continues" in report
    assert "canary" not in report and "\x1b[2J" not in report


def test_resizing_to_a_small_screen_and_back_changes_nothing(done):
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
    """Return the contrast ratio of two colours as WCAG defines it, 1 to 21."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [part / 255 for part in Color.parse(colour).rgb]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_all_colours_have_enough_contrast(make_run, monkeypatch, dark):
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


def test_another_theme_recolours_everything_at_once(done, monkeypatch):
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


def test_the_chart_widget_works_in_another_app(monkeypatch):
    import numpy as np
    from textual.app import App

    from tspin_mlx.view.chart import Plot, Series

    class Alone(App):
        def compose(self):
            yield ChartView()

    async def legend():
        app = Alone()
        async with app.run_test(size=(48, 14)) as pilot:
            app.query_one(ChartView).plot = Plot((Series("a", np.arange(100.0)),))
            await pilot.pause()
            return text_of(app)

    assert "━━ a" in asyncio.run(legend())
