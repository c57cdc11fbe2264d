"""Footer with the key bindings: as many as fit; those for leaving and for help are always there."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text
from textual.dom import DOMNode
from textual.events import Click
from textual.widgets import Static

from ..theme import theme_colours

_GAP = 3  # cells between two bindings
_ALWAYS_SHOWN = ("detach", "dismiss", "app.quit", "help")


class _Entry(NamedTuple):
    """A binding in the footer: its key, its label, and the node whose action it runs."""

    key: str
    label: str
    node: DOMNode

    @property
    def width(self) -> int:
        return len(self.key) + 1 + len(self.label)


class KeyLine(Static):
    """Shows the active key bindings, those of the focused widget first; a click on one runs its action."""

    DEFAULT_CSS = "KeyLine { height: 1; width: 1fr; padding: 0 1; dock: bottom; }"

    def on_mount(self) -> None:
        """Subscribe to changes of the bindings and of the theme."""
        self._spans: list[tuple[int, int, str, DOMNode]] = []
        for signal in (self.screen.bindings_updated_signal, self.app.theme_changed_signal):
            signal.subscribe(self, lambda _: self.refresh_keys())
        self.refresh_keys()

    def on_resize(self) -> None:
        """Fit the bindings to the new width."""
        self.refresh_keys()

    def refresh_keys(self) -> None:
        """Show the active bindings."""
        entries: dict[str, _Entry] = {}
        for active in self.screen.active_bindings.values():
            action, label = active.binding.action, active.binding.description
            if active.enabled and active.binding.show and label and action not in entries:
                entries[action] = _Entry(self.app.get_key_display(active.binding), label, active.node)
        last = {action: entries.pop(action) for action in _ALWAYS_SHOWN if action in entries}
        room = self.size.width - 2 - sum(entry.width + _GAP for entry in last.values()) + _GAP
        colours, line = theme_colours(self.app), Text(no_wrap=True)
        self._spans.clear()
        for action, entry in [*entries.items(), *last.items()]:
            if action not in last and line.cell_len + entry.width + _GAP > room:
                continue
            start = line.cell_len
            line.append(entry.key, f"bold {colours['accent']}").append(f" {entry.label}", colours["dim"])
            self._spans.append((start, line.cell_len, action, entry.node))
            line.append(" " * _GAP)
        self.update(line)

    async def on_click(self, event: Click) -> None:
        """Run the action of the binding that was clicked."""
        x = event.get_content_offset_capture(self).x
        for start, end, action, node in self._spans:
            if start <= x < end:
                await self.app.run_action(action, node)
