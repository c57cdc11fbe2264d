"""Asks when to stop."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tspin_mlx.control import When

from .bindings import bound
from .colours import words_of

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
        text = Text("Stop training?\n\n", style="bold")
        for key, when, note in _CHOICES:
            shown = "esc" if key == "escape" else key
            text.append(f"{shown:>4}  ", f"not bold {colours['accent']}")
            text.append(f"{when:<22}", "not bold")
            text.append(f"{note}\n", f"not bold {colours['dim']}")
        text.rstrip()
        with Vertical(classes="box"):
            yield Static(text)

    def on_mount(self) -> None:
        """Look like a dialog."""
        self.add_class("dialog")

    def action_choose(self, when: str) -> None:
        """Answer."""
        self.dismiss(when or None)  # type: ignore[arg-type]
