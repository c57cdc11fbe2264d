"""Base classes of the app and of its screens, so that neither imports the other; notifications."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual import getters
from textual.app import App
from textual.screen import Screen

from tspin_mlx.base.errors import TspinError
from tspin_mlx.base.text import printable


class AppBase(App[None]):
    """The part of the app that screens use.

    Attributes:
        folder: holds the runs.
        clock: returns seconds since 1970.
    """

    folder: Path
    clock: Callable[[], float]

    def open_run(self, path: Path) -> None:
        """Show a run on a screen of its own."""
        raise NotImplementedError

    def close_screen(self, screen: Screen[Any]) -> None:
        """Pop a screen and everything above it: help, the command palette, a file picker."""
        while screen in self.screen_stack:
            self.pop_screen()

    def show_error(self, error: TspinError) -> None:
        """Show an error and its hint as a notification."""
        text = error.message if error.hint is None else f"{error.message}\n→ {error.hint}"
        self.notify(printable(text, keep_newlines=True), severity="error", timeout=10, markup=False)

    def show_message(self, text: str, *, warning: bool = False) -> None:
        """Show a message as a notification."""
        self.notify(printable(text, keep_newlines=True), severity="warning" if warning else "information", markup=False)


class AppScreen(Screen[None]):
    """A full screen of the app."""

    app = getters.app(AppBase)
