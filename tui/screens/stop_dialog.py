"""Asks when to stop."""

from __future__ import annotations

from typing import ClassVar, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tspin_mlx.jobs.control import When

from ..keys import bound
from ..theme import words_of

_CHOICES: dict[When | Literal[""], tuple[str, str]] = {
    "iteration": ("after this iteration", "it is trained and measured"),
    "step": ("after this step", "a checkpoint is kept"),
    "now": ("now", "goes back to the last checkpoint"),
    "": ("not at all", ""),
}


class StopDialog(ModalScreen[When | None]):
    """``now``, ``step``, ``iteration``, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bound(f"stop-{when}" if when else "back", f"choose('{when}')", words, show=False)
        for when, (words, _) in _CHOICES.items()
    ]

    def compose(self) -> ComposeResult:
        """The question, and what each key does."""
        colours = words_of(self.app)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        keys: dict[str, list[str]] = {}
        for _, binding, _, _ in self.active_bindings.values():
            keys.setdefault(binding.description, []).append(self.app.get_key_display(binding))
        for words, note in _CHOICES.values():
            shown = ", ".join(keys.get(words, ()))
            table.add_row(Text(shown, style=colours["accent"]), Text(words), Text(note, style=colours["dim"]))
        told = Text("\nWhat is finished is kept; resume goes on exactly there.", style=colours["dim"])
        with Vertical(classes="box"):
            yield Static(Group(Text("Stop training?\n", style="bold"), table, told))

    def action_choose(self, when: When | Literal[""]) -> None:
        """Answer."""
        self.dismiss(when or None)
