"""Says what the keys do where the focus is."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from ..keys import KEYS, bound
from ..theme import words_of

_KNOWN = KEYS.keys() - {"line-up", "line-down"} | {"command-palette"}


class HelpScreen(ModalScreen[None]):
    """What can be done, and what is to be seen.

    Args:
        text: about what has the focus.
        keys: key, and what it does.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        bound("back", "dismiss", "close", show=False),
        bound("help", "dismiss", "close", show=False),
    ]

    def __init__(self, text: str, keys: list[tuple[str, str]]) -> None:
        super().__init__()
        self._text, self._keys = text, keys

    @classmethod
    def about(cls, screen: Screen[Any]) -> HelpScreen:
        """Return the help for the widget of a screen that has the focus, and for what is around it."""
        around = [screen] if screen.focused is None else list(screen.focused.ancestors_with_self)
        text = next((text for node in around if (text := _help_of(node))), "")
        keys: dict[str, list[str]] = {}
        for _, binding, enabled, tooltip in screen.active_bindings.values():
            if enabled and binding.description and binding.id in _KNOWN:
                told = tooltip or binding.tooltip or binding.description
                keys.setdefault(told, []).append(screen.app.get_key_display(binding))
        return cls(text, [(" ".join(dict.fromkeys(shown)), told) for told, shown in keys.items()])

    def compose(self) -> ComposeResult:
        """The text, then the keys."""
        colours = words_of(self.app)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column()
        for key, told in self._keys:
            table.add_row(Text(key, style=colours["accent"]), Text(told))
        with VerticalScroll(classes="box"):
            yield Static(Text(self._text + "\n"))
            yield Static(table)
            yield Static(Text("\nesc closes this; every key can be changed, see docs/tui.md", style=colours["dim"]))


def _help_of(node: object) -> str:
    return str(getattr(node, "help_text", "") or getattr(node, "HELP", "") or "")
