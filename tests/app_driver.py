"""The app, driven by Textual's pilot, and what is on its screen."""

import asyncio

from tspin_mlx.tui.app import TspinApp

#: Where the runs that ``make_run`` leaves half-done are.
TRAINING = "iterations/001/adapter"


def drive(story, *, size=(120, 36), run=None):
    """Tell a story to an app; it is an async function of the app and its pilot."""

    async def told():
        app = TspinApp(run=run and run.path)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause(0.2)
            await story(app, pilot)
        return app

    return asyncio.run(told())


async def until(pilot, condition, seconds=15.0):
    """Wait for something to become true."""
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError("it did not happen")


def text_of(app):
    """What is on the screen, as lines."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips[: app.size.height])
