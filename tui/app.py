"""The Textual app: themes, keymap, command palette, crash report, and the first screen."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import TspinError
from tspin_mlx.base.text import printable
from tspin_mlx.runs.run import Run

from .keys import binding, keymap_path, load_keymap
from .screens.app_screen import AppBase
from .screens.home import HomeScreen
from .screenshot import screenshot
from .theme import DARK, LIGHT


class TspinApp(AppBase):
    """Shows runs, and starts and stops them.

    Args:
        folder: holds the runs.
        run: the run to show first; without one, the list of runs.
        clock: returns seconds since 1970; tests pass their own.
    """

    TITLE = "tspin-mlx"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-medium"), (110, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (22, "-tall")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("help", "help", "help", tooltip="Show the keys and what they do"),
        binding("quit", "quit", "quit", tooltip="Quit; training continues", show=False),
    ]

    def __init__(
        self, folder: Path = Path("runs"), run: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self.folder, self.clock = folder, clock
        self._first_run = run
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name

    def get_default_screen(self) -> Screen[None]:
        """Return the home screen, the list of runs."""
        return HomeScreen()

    def on_mount(self) -> None:
        """Load the user's keymap, and show the first run."""
        try:
            self.set_keymap(load_keymap(keymap_path()))
        except TspinError as error:
            self.show_error(error)
        if self._first_run is not None:
            self.open_run(self._first_run)

    def open_run(self, path: Path) -> None:
        """Show a run on a screen of its own."""
        from .screens.run import RunScreen

        try:
            self.push_screen(RunScreen(Run(path)))
        except TspinError as error:
            self.show_error(error)

    def _fatal_error(self) -> None:
        """Print a traceback without local variables: Textual's own shows them, and may show tokens that way."""
        self.bell()
        report = f"{traceback.format_exc()}\nThe app crashed; training continues."
        self.panic(Text(printable(report, keep_newlines=True)))

    def action_help_quit(self) -> None:
        """Handle Ctrl-C, which quits other programs: show the key that quits this one."""
        self.show_message("q quits; training continues")

    def action_help(self) -> None:
        """Show the help screen for the focused widget."""
        from .screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen.about(self.screen))

    def action_new_run(self) -> None:
        """Show the form for a new run."""
        from .screens.new_run import NewRunScreen

        self.push_screen(NewRunScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield the commands of the palette: the actions of all active key bindings, the theme, a screenshot."""
        listed: set[str | None] = {None}  # an action may have several keys
        for node, bound_to, enabled, _ in screen.active_bindings.values():
            if enabled and bound_to.id not in listed and bound_to.description and "cursor" not in bound_to.action:
                listed.add(bound_to.id)
                yield SystemCommand(
                    bound_to.description.capitalize(),
                    bound_to.tooltip or f"key {self.get_key_display(bound_to)}",
                    partial(self.call_later, self.run_action, bound_to.action, node),
                )
        other = LIGHT if self.current_theme.dark else DARK
        yield SystemCommand(
            f"{'Light' if other is LIGHT else 'Dark'} theme",
            "Switch the theme",
            partial(setattr, self, "theme", other.name),
        )
        yield SystemCommand("Save a screenshot", "As SVG, in the current folder", self.save_svg)

    def save_svg(self) -> None:
        """Save a screenshot in the current folder."""
        path = Path(f"tspin-mlx-{time.strftime('%Y%m%d-%H%M%S')}.svg")
        try:
            filesystem.write_text(path, screenshot(self))
        except TspinError as error:
            self.show_error(error)
        else:
            self.show_message(f"saved {path}")
