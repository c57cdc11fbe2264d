"""Test driver: runs the app headless under Textual's pilot and returns the screen as text."""

import asyncio
import json

from tspin_mlx.tui.app import TspinApp

#: The phase in which the runs that ``make_run`` leaves unfinished are.
TRAINING = "iterations/001/adapter"


def drive(scenario, *, size=(120, 36), run=None):
    """Run the app and play a scenario, an async function of the app and its pilot; return the app."""

    async def play():
        app = TspinApp(run=run and run.path)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause(0.2)
            await scenario(app, pilot)
            await pilot.pause()  # a screen that is closed before it is mounted would fail
        return app

    return asyncio.run(play())


async def until(pilot, condition, seconds=15.0):
    """Wait until a condition holds; fail after a timeout."""
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError(f"the condition did not hold within {seconds:g} s")


def text_of(app):
    """Return the text on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips[: app.size.height])


def append_event(run, **event):
    """Append an event to the log of a run, as its engine would."""
    with run.events_path.open("a") as log:
        log.write(json.dumps({"time": 1_800_000_000.0, **event}) + "\n")
