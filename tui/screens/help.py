"""Help screen: help text and key bindings for the widget that has the focus."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from ..keys import KEYS, binding
from ..theme import theme_colours

#: The bindings to list: ours and the command palette, but not those that Textual's widgets add.
_LISTED_IDS = KEYS.keys() - {"line-up", "line-down"} | {"command-palette"}


class HelpScreen(ModalScreen[None]):
    """A help text and a table of keys.

    Args:
        text: the help text.
        keys: pairs of keys and what they do.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        binding("back", "dismiss", "close", show=False),
        binding("help", "dismiss", "close", show=False),
    ]

    def __init__(self, text: str, keys: list[tuple[str, str]]) -> None:
        super().__init__()
        self._text, self._keys = text, keys

    @classmethod
    def about(cls, screen: Screen[Any]) -> HelpScreen:
        """Return the help for a screen: the text of the focused widget or its nearest ancestor, and all active keys."""
        nodes = [screen] if screen.focused is None else list(screen.focused.ancestors_with_self)
        text = next((text for node in nodes if (text := _help_text(node))), "")
        keys: dict[str, list[str]] = {}
        for active in screen.active_bindings.values():
            if active.enabled and active.binding.description and active.binding.id in _LISTED_IDS:
                description = active.tooltip or active.binding.tooltip or active.binding.description
                keys.setdefault(description, []).append(screen.app.get_key_display(active.binding))
        return cls(text, [(" ".join(dict.fromkeys(names)), description) for description, names in keys.items()])

    def compose(self) -> ComposeResult:
        """Yield the text and the table of keys."""
        colours = theme_colours(self.app)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column()
        for key, description in self._keys:
            table.add_row(Text(key, style=colours["accent"]), Text(description))
        with VerticalScroll(classes="box"):
            yield Static(Text(self._text + "\n"))
            yield Static(table)
            yield Static(Text("\nesc closes this; docs/tui.md shows how to change keys", style=colours["dim"]))


def _help_text(node: object) -> str:
    return str(getattr(node, "help_text", "") or getattr(node, "HELP", "") or "")
