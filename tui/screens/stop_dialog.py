"""Stop dialog: asks when training should stop."""

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

from ..keys import binding
from ..theme import theme_colours

#: Label and note of each choice; the empty one is not to stop.
_CHOICES: dict[When | Literal[""], tuple[str, str]] = {
    "iteration": ("after this iteration", "trains and evaluates it first"),
    "step": ("after this step", "saves a checkpoint"),
    "now": ("now", "falls back to the last checkpoint"),
    "": ("do not stop", ""),
}


class StopDialog(ModalScreen[When | None]):
    """Returns when to stop; None to continue."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding(f"stop-{when}" if when else "back", f"choose('{when}')", label, show=False)
        for when, (label, _) in _CHOICES.items()
    ]

    def compose(self) -> ComposeResult:
        """Yield the question, and the choices with their keys."""
        colours = theme_colours(self.app)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        keys: dict[str, list[str]] = {}
        for active in self.active_bindings.values():
            keys.setdefault(active.binding.description, []).append(self.app.get_key_display(active.binding))
        for label, note in _CHOICES.values():
            names = ", ".join(keys.get(label, ()))
            table.add_row(Text(names, style=colours["accent"]), Text(label), Text(note, style=colours["dim"]))
        footer = Text("\nFinished work is kept; resume continues exactly there.", style=colours["dim"])
        with Vertical(classes="box"):
            yield Static(Group(Text("Stop training?\n", style="bold"), table, footer))

    def action_choose(self, when: When | Literal[""]) -> None:
        """Close the dialog with a choice."""
        self.dismiss(when or None)
