"""Asks when to stop."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tspin_mlx.control import When

from .keys import bound
from .look import words_of

_CHOICES = (
    ("i", "after this iteration", "it is trained and measured"),
    ("s", "after this step", "a checkpoint is kept"),
    ("n", "now", "goes back to the last checkpoint"),
    ("escape", "not at all", ""),
)


class StopDialog(ModalScreen[When | None]):
    """``now``, ``step``, ``iteration``, or None."""

    HELP = "What is finished is kept, whichever you choose; r resumes exactly there."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i", "choose('iteration')", "after this iteration", show=False),
        Binding("s", "choose('step')", "after this step", show=False),
        Binding("n", "choose('now')", "now", show=False),
        bound("back", "choose('')", "not at all", show=False),
    ]

    def compose(self) -> ComposeResult:
        """The question, and what each key does."""
        colours = words_of(self.app)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        for key, when, note in _CHOICES:
            shown = "esc" if key == "escape" else key
            table.add_row(Text(shown, style=colours["accent"]), Text(when), Text(note, style=colours["dim"]))
        with Vertical(classes="box"):
            yield Static(Group(Text("Stop training?\n", style="bold"), table))

    def action_choose(self, when: str) -> None:
        """Answer."""
        self.dismiss(when or None)  # type: ignore[arg-type]
