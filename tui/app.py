"""The app: themes, keys, and which screen comes first."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from tspin_mlx.base import storage
from tspin_mlx.base.errors import TspinError
from tspin_mlx.base.text import printable
from tspin_mlx.runs.run import Run

from .keys import bound, keys_file, own_keys
from .screens.app_screen import AppBase
from .screens.home import HomeScreen
from .screenshot import picture
from .theme import DARK, LIGHT


class TspinApp(AppBase):
    """Shows runs, and starts and stops them.

    Args:
        folder: holds the runs.
        run: the run to show first; without one, the list.
        clock: seconds since 1970; tests bring their own.
    """

    TITLE = "tspin-mlx"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (76, "-medium"), (110, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (22, "-tall")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("help", "help", "help", tooltip="What can be done here"),
        bound("quit", "quit", "quit", tooltip="Leave; what trains goes on", show=False),
    ]

    def __init__(
        self, folder: Path = Path("runs"), run: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self.folder, self.clock = folder, clock
        self._first = run
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name

    def get_default_screen(self) -> Screen[None]:
        """The list of runs."""
        return HomeScreen()

    def on_mount(self) -> None:
        """Take the user's keys, and go to the run that was asked for."""
        try:
            self.set_keymap(own_keys(keys_file()))
        except TspinError as error:
            self.show_error(error)
        if self._first is not None:
            self.open_run(self._first)

    def open_run(self, path: Path) -> None:
        """Show a run."""
        from .screens.run import RunScreen

        try:
            self.push_screen(RunScreen(Run(path)))
        except TspinError as error:
            self.show_error(error)

    def _fatal_error(self) -> None:
        """Textual's own traceback shows local variables, and with them the environment: tokens, for one."""
        self.bell()
        told = f"{traceback.format_exc()}\nThe app has failed; what trains goes on."
        self.panic(Text(printable(told, keep_newlines=True)))

    def action_help_quit(self) -> None:
        """Ctrl-C, which ends other programs."""
        self.show_message("q leaves; what trains goes on")

    def action_help(self) -> None:
        """Show what the keys do where the focus is."""
        from .screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen.about(self.screen))

    def action_new_run(self) -> None:
        """The form of a new run."""
        from .screens.new_run import NewRunScreen

        self.push_screen(NewRunScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """All that the keys of the screen do, in the palette; then the colours, and the way out."""
        listed: set[str | None] = {None}  # several keys may do one thing
        for _, binding, enabled, _ in screen.active_bindings.values():
            if enabled and binding.id not in listed and binding.description and "cursor" not in binding.action:
                listed.add(binding.id)
                namespace = next(node for node, b, _, _ in screen.active_bindings.values() if b is binding)
                yield SystemCommand(
                    binding.description.capitalize(),
                    binding.tooltip or f"key {self.get_key_display(binding)}",
                    lambda action=binding.action, node=namespace: self.call_later(self.run_action, action, node),
                )
        other = LIGHT if self.current_theme.dark else DARK
        yield SystemCommand(
            f"{'Light' if other is LIGHT else 'Dark'} colours",
            "Change the colours",
            lambda: setattr(self, "theme", other.name),
        )
        yield SystemCommand("Save a picture", "The screen as SVG, in the current folder", self.save_picture)

    def save_picture(self) -> None:
        """Save the screen as SVG."""
        path = Path(f"tspin-mlx-{time.strftime('%Y%m%d-%H%M%S')}.svg")
        try:
            storage.write_text(path, picture(self))
        except TspinError as error:
            self.show_error(error)
        else:
            self.show_message(f"saved {path}")
