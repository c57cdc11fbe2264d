"""Every screen and every key, driven by Textual's pilot on runs that no model has made."""

import asyncio
import json
from pathlib import Path

import pytest
from textual.color import Color
from textual.widgets import DataTable, Input
from tspin_mlx_tui.chart_view import ChartView
from tspin_mlx_tui.compare import CompareScreen, differences
from tspin_mlx_tui.help import HelpScreen
from tspin_mlx_tui.home import HomeScreen
from tspin_mlx_tui.key_line import KeyLine
from tspin_mlx_tui.keys import KEYS, keys_file, own_keys
from tspin_mlx_tui.look import LIGHT, palette
from tspin_mlx_tui.metrics_pane import MetricsGrid
from tspin_mlx_tui.new_run import NewRunScreen
from tspin_mlx_tui.run_screen import RunScreen
from tspin_mlx_tui.samples_pane import SamplesPane
from tspin_mlx_tui.stop_dialog import StopDialog

from tspin_mlx.errors import UsageError
from tspin_mlx.runs.lock import RunLock

from .app_driver import drive, text_of, until

TRAINING = "iterations/001/adapter"


@pytest.fixture
def done(make_run):
    return make_run("done")


@pytest.fixture
def working(make_run):
    """A run in the middle of training, on which somebody works."""
    run = make_run("working", until=TRAINING)
    lock = RunLock.acquire(run.path)
    yield run
    lock.close()


# --- home


def test_without_runs_the_first_screen_says_what_to_press(make_run):
    async def story(app, pilot):
        await until(pilot, lambda: "No runs here yet" in text_of(app))
        assert "n   starts one" in text_of(app) and "q quit" in text_of(app) and "m mark" not in text_of(app)
        await pilot.press("n")
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("q")

    assert drive(story).return_code == 0


def test_home_lists_runs_and_opens_one(make_run):
    make_run("first")
    make_run("second", until=TRAINING)
    (make_run("broken").path / "run.json").write_text("{")

    async def story(app, pilot):
        await until(pilot, lambda: "first" in text_of(app))
        seen = text_of(app)
        assert "✓ finished" in seen and "‖ interrupted" in seen and "✗ damaged" in seen
        assert "iteration 1 NLL 1.00" in seen and "▁" in seen
        app.screen.query_one(DataTable).move_cursor(row=list(app.screen._runs).index("broken"))
        await pilot.press("enter")
        await until(pilot, lambda: "is not what was written" in text_of(app) or "cannot be read" in text_of(app))
        app.screen.query_one(DataTable).move_cursor(row=list(app.screen._runs).index("first"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("q")
        assert isinstance(app.screen, HomeScreen)

    drive(story)


def test_runs_are_marked_and_compared(make_run):
    for name, rate in (("slow", "1e-5"), ("fast", "1e-3")):
        make_run(name, overrides=[f"training.learning_rate={rate}"])

    async def story(app, pilot):
        await until(pilot, lambda: "slow" in text_of(app))
        await pilot.press("m")
        await pilot.press("v")
        await pilot.pause()
        assert isinstance(app.screen, HomeScreen)  # one is not enough
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

    drive(story)


def test_differences_leave_names_out():
    plans = [
        {"recipe": {"a": {"b": 1, "c": 2}, "run": {"name": n}}, "counts": {"train": t}} for n, t in (("x", 1), ("y", 2))
    ]
    assert differences(plans) == {"examples.train": ["1", "2"]}
    plans[0]["recipe"]["a"]["b"] = None
    assert differences(plans)["a.b"] == ["–", "1"]


def test_resume_from_home_starts_the_engine_and_shows_the_run(make_run, monkeypatch):
    make_run("half", until=TRAINING)
    started = []
    monkeypatch.setattr("tspin_mlx.control.resume", lambda run: started.append(run.name))

    async def story(app, pilot):
        await until(pilot, lambda: "half" in text_of(app))
        await pilot.press("r")
        assert isinstance(app.screen, RunScreen) and started == ["half"]

    drive(story)


# --- a run


def test_the_panes_of_a_run_have_their_keys(done):
    wanted = {
        "1": ["━━ current", "━━ historical", "iteration 1", "reward accuracy", "held out", "★ iteration 1"],
        "2": ["advantage/current", "grad_norm", "memory/peak_bytes"],
        "3": ["held out", "please do validation number 0", "expert  y  −9.00", "synthetic", "after the iteration"],
        "4": ["M9", "memory held", "1.50 of 17.2 GB", "tokens/s"],
        "5": ["iteration 1: train on triplets", "finished", "a look at"],
    }

    async def story(app, pilot):
        for key, words in wanted.items():
            await pilot.press(key)
            await pilot.pause(0.3)
            seen = text_of(app)
            for word in words:
                assert word in seen, (key, word)
        assert "✓ finished" in seen and "best: iteration 1 (NLL 1.25)" in seen

    drive(story, run=done)


def test_a_working_run_shows_its_phase_and_what_is_left(working):
    async def story(app, pilot):
        await until(pilot, lambda: "▸ train on triplets" in text_of(app))
        seen = text_of(app)
        assert "iteration 1 (2 of 2)" in seen and "6/12" in seen and "left" in seen
        assert "✓ answer the prompts" in seen and "s stop" in seen and "r resume" not in seen

    drive(story, run=working)


def test_a_dead_engine_is_told_within_two_seconds(make_run):
    run = make_run("killed", until=TRAINING)
    lock = RunLock.acquire(run.path)

    async def story(app, pilot):
        await until(pilot, lambda: "running" in text_of(app))
        lock.close()
        await until(pilot, lambda: "interrupted: r resumes" in text_of(app), seconds=2.5)
        assert "r resume" in text_of(app)

    drive(story, run=run)


@pytest.mark.parametrize(("key", "when"), [("i", "iteration"), ("s", "step"), ("n", "now"), ("escape", None)])
def test_stop_is_asked_about(working, monkeypatch, key, when):
    asked = []
    monkeypatch.setattr("tspin_mlx_tui.run_screen.request_stop", lambda run, when: asked.append(when))

    async def story(app, pilot):
        await pilot.press("s")
        assert isinstance(app.screen, StopDialog)
        assert "after this iteration" in text_of(app)
        await pilot.press(key)
        assert isinstance(app.screen, RunScreen)

    drive(story, run=working)
    assert asked == ([when] if when else [])


def test_a_request_that_fails_is_told(working, monkeypatch):
    def refuse(run, when):
        raise UsageError("nobody works on it", hint="resume it")

    monkeypatch.setattr("tspin_mlx_tui.run_screen.request_stop", refuse)

    async def story(app, pilot):
        await pilot.press("s", "s")
        await until(pilot, lambda: "nobody works on it" in text_of(app))

    drive(story, run=working)


def test_resume_follows_what_was_started(make_run, monkeypatch):
    run = make_run("half", until=TRAINING)
    started = []
    monkeypatch.setattr("tspin_mlx_tui.run_screen.resume", lambda run: started.append(RunLock.acquire(run.path)))

    async def story(app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: "running" in text_of(app))
        await pilot.press("r")  # no second one
        assert len(started) == 1

    drive(story, run=run)
    started[0].close()


def test_space_freezes_the_view_and_goes_on(working):
    async def story(app, pilot):
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

    drive(story, run=working)


def test_a_finished_run_is_played_again_at_speed(done):
    async def story(app, pilot):
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

    drive(story, run=done)


@pytest.mark.parametrize("key", ["d", "q", "escape"])
def test_detaching_says_that_training_goes_on(working, key):
    async def story(app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, HomeScreen) and "goes on in the background" in text_of(app))

    drive(story, run=working)


def test_smoothing_can_be_changed(done):
    async def story(app, pilot):
        chart = app.screen.query_one("#advantages", ChartView)
        assert chart.plot.smoothed_over == 1
        await pilot.press("right_square_bracket")
        assert chart.plot.smoothed_over == 2
        await pilot.press("right_square_bracket")
        assert chart.plot.smoothed_over == 4
        await pilot.press("left_square_bracket")
        assert chart.plot.smoothed_over == 2

    drive(story, run=done)


def test_metrics_are_filtered_and_shown_on_a_log_scale(done):
    async def story(app, pilot):
        await pilot.press("2")
        grid = app.screen.query_one(MetricsGrid)
        assert len(grid.names) > 10
        await pilot.press("slash", *"grad")
        assert grid.names == ["grad_norm"]
        await pilot.press("enter", "l")
        assert grid.log_scale and "grad_norm" in text_of(app)
        await pilot.press("slash", "escape")
        assert len(grid.names) > 10 and isinstance(app.screen, RunScreen)

    drive(story, run=done)


def test_samples_step_through_iterations_are_ordered_and_switch_to_the_training_data(done):
    async def story(app, pilot):
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

    drive(story, run=done)


def test_events_with_steps(done):
    async def story(app, pilot):
        await pilot.press("5")
        await pilot.pause(0.3)
        assert "step 12/12" not in text_of(app)
        await pilot.press("t")
        await pilot.pause(0.3)
        await pilot.press("end")
        log = app.screen.query_one("#log")
        assert any("step 12/12" in line.text for line in log.lines)

    drive(story, run=done)


# --- help, palette, keys, colours, sizes


def test_nothing_blinks(done):
    async def story(app, pilot):
        lines = []
        for key in ("2", "f", "escape", "e", "escape", "c"):
            await pilot.press(key)
            lines += app.screen.query(Input)
        assert len(lines) > 10 and not any(line.cursor_blink for line in lines)

    drive(story, run=done)


def test_help_is_about_the_focus(done):
    async def story(app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "log π(y)" in text_of(app) and "Average over twice as many steps" in text_of(app)
        await pilot.press("escape", "2", "f1")
        assert "Every metric" in text_of(app) and "Logarithmic" in text_of(app)
        await pilot.press("question_mark")
        assert isinstance(app.screen, RunScreen)

    drive(story, run=done)


def test_the_palette_knows_what_can_be_done_here(done):
    async def story(app, pilot):
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Replay", "Export", "Chat", "Detach", "Light colours", "Save a picture"} <= set(titles)
        await pilot.press("ctrl+p")
        await pilot.pause(0.2)
        await pilot.press(*"light")
        await pilot.pause(0.5)
        await pilot.press("enter", "enter")
        await until(pilot, lambda: app.theme == LIGHT.name)

    drive(story, run=done)


def test_a_picture_of_the_screen_is_saved_and_needs_nothing_else(done, tmp_path):
    async def story(app, pilot):
        app.save_picture()

    drive(story, run=done)
    (saved,) = tmp_path.glob("*.svg")
    content = saved.read_text()
    assert "current" in content and "http" not in content.replace("http://www.w3.org/2000/svg", "")


def test_keys_can_be_changed_by_their_ids(done, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keys_file().parent.mkdir()
    keys_file().write_text('replay = "x"\n')

    async def story(app, pilot):
        await pilot.press("p")
        assert "replay at" not in text_of(app)
        assert "x replay" in text_of(app)
        await pilot.press("x")
        assert "replay at" in text_of(app)

    drive(story, run=done)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stopp = 'x'", "no action"),
        ("stop = 1", "must be"),
        ("[", "cannot be read"),
        ("stop = 'f5,r'", "stop would have the key r"),
        ("new = 'n'\nstop = 'n'", "stop would have the key n"),
    ],
)
def test_wrong_keys_are_refused_and_told(make_run, tmp_path, monkeypatch, text, message):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keys_file().parent.mkdir()
    keys_file().write_text(text)
    with pytest.raises(UsageError, match=message):
        own_keys(keys_file())

    async def story(app, pilot):
        await until(pilot, lambda: message in text_of(app))

    drive(story)


def test_keys_may_change_places(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text("stop = 'r'\nresume = 's'\ndetach = 'q,ctrl+d'\n")
    assert own_keys(path) == {"stop": "r", "resume": "s", "detach": "q,ctrl+d"}


def test_every_key_is_in_the_documentation():
    text = (Path(__file__).parent.parent / "docs" / "tui.md").read_text()
    assert not [name for name in KEYS if f"`{name}`" not in text]


def test_no_two_actions_of_a_screen_share_a_key(done):
    async def story(app, pilot):
        for key in "12345":
            await pilot.press(key)
            bindings = [binding for _, binding, _, _ in app.screen.active_bindings.values()]
            assert "replay" in {binding.action for binding in bindings}
        bound = {binding.id for binding in bindings if binding.id}
        assert bound <= KEYS.keys() | {"command-palette"}

    drive(story, run=done)


def test_every_line_of_keys_fits_and_has_help(done):
    for size in ((120, 36), (80, 24), (50, 16)):

        async def story(app, pilot, size=size):
            for key in "12345":
                await pilot.press(key)
                await pilot.pause(0.1)
                line = text_of(app).splitlines()[-1]
                assert "? help" in line and len(line.rstrip()) <= size[0], (size, key)

        drive(story, run=done, size=size)


def test_a_click_on_a_key_or_a_tab_does_it(done):
    async def story(app, pilot):
        await pilot.click("#tabs", offset=(19, 0))
        assert app.screen.pane_name == "metrics"
        line = app.screen.query_one(KeyLine)
        start = next(start for start, _, action, _ in line._spans if action == "replay")
        await pilot.click(KeyLine, offset=(start + 2, 0))
        assert "replay at" in text_of(app)

    drive(story, run=done)


def test_resizing_to_a_small_screen_and_back_breaks_nothing(done):
    async def story(app, pilot):
        for key in "12345":
            await pilot.press(key)
            await pilot.pause(0.2)
            before = text_of(app)
            for size in ((50, 16), (20, 5), (80, 24), (120, 36)):
                await pilot.resize_terminal(*size)
                await pilot.pause(0.2)
            assert text_of(app) == before, key

    drive(story, run=done)


def contrast(one, other):
    """The contrast ratio of two colours as WCAG defines it, 1 to 21."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [part / 255 for part in Color.parse(colour).rgb]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_all_colours_stand_out(make_run, dark):
    async def story(app, pilot):
        if not dark:
            app.theme = LIGHT.name
        ground = app.current_theme.background
        colours = palette(app)
        for colour in (colours.plain, colours.dim, *colours.lines):
            assert contrast(colour, ground) >= 4.5, colour
        for colour in (*colours.lines[:2], colours.plain):
            for band in colours.bands:
                assert contrast(colour, band) >= 3.0, (colour, band)

    drive(story)


@pytest.mark.parametrize(("name", "size"), [("120x36", (120, 36)), ("80x24", (80, 24)), ("50x16", (50, 16))])
def test_the_advantage_screen(working, monkeypatch, same_as_kept, name, size):
    _snapshot(working, monkeypatch, same_as_kept, name, size)


def test_the_advantage_screen_in_light_colours(working, monkeypatch, same_as_kept):
    _snapshot(working, monkeypatch, same_as_kept, "80x24-light", (80, 24), light=True)


def test_the_advantage_screen_without_colours(working, monkeypatch, same_as_kept):
    monkeypatch.setenv("NO_COLOR", "1")
    _snapshot(working, monkeypatch, same_as_kept, "80x24-no-colour", (80, 24))


def _snapshot(run, monkeypatch, same_as_kept, name, size, light=False):
    from tspin_mlx_tui.picture import picture

    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")

    async def story(app, pilot):
        if light:
            app.theme = LIGHT.name
        await until(pilot, lambda: "6/12" in text_of(app))
        await pilot.pause(0.4)
        same_as_kept(f"screen-{name}.svg", picture(app))

    drive(story, run=run, size=size)


def test_256_colours_have_grey_bands_and_16_have_none(make_run, monkeypatch):
    monkeypatch.delenv("COLORTERM", raising=False)
    for term, count in (("xterm-256color", 3), ("xterm", 0)):
        monkeypatch.setenv("TERM", term)

        async def story(app, pilot, count=count):
            bands = palette(app).bands
            assert len(bands) == count
            assert all(band[1:3] == band[3:5] == band[5:7] for band in bands)

        drive(story)


def test_the_chart_can_be_used_alone(monkeypatch):
    import numpy as np
    from textual.app import App

    from tspin_mlx.chart import Plot, Series

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
