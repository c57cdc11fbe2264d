"""The last line of every screen: what can be pressed, as far as it fits; the way out and help always do."""

from __future__ import annotations

from rich.text import Text
from textual.dom import DOMNode
from textual.events import Click
from textual.widgets import Static

from ..theme import words_of

_GAP = 3
_ALWAYS = ("detach", "dismiss", "app.quit", "help")


class KeyLine(Static):
    """Keys and what they do, from the focus outwards; a click does it."""

    DEFAULT_CSS = "KeyLine { height: 1; width: 1fr; padding: 0 1; dock: bottom; }"

    def on_mount(self) -> None:
        """Follow what can be done."""
        self._spans: list[tuple[int, int, str, DOMNode]] = []
        for signal in (self.screen.bindings_updated_signal, self.app.theme_changed_signal):
            signal.subscribe(self, lambda _: self.refresh_keys())
        self.refresh_keys()

    def on_resize(self) -> None:
        """Another number of keys may fit."""
        self.refresh_keys()

    def refresh_keys(self) -> None:
        """Write the line anew."""
        found: dict[str, tuple[str, str, DOMNode]] = {}
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if enabled and binding.show and binding.description and binding.action not in found:
                shown = self.app.get_key_display(binding)
                found[binding.action] = (shown, binding.description, node)
        colours, line = words_of(self.app), Text(no_wrap=True)
        self._spans.clear()
        last = {action: found.pop(action) for action in _ALWAYS if action in found}
        left = self.size.width - 2 - sum(len(key) + 1 + len(told) + _GAP for key, told, _ in last.values()) + _GAP
        for action, (key, told, node) in [*found.items(), *last.items()]:
            if action not in last and line.cell_len + len(key) + 1 + len(told) + _GAP > left:
                continue
            start = line.cell_len
            line.append(key, f"bold {colours['accent']}").append(f" {told}", colours["dim"])
            self._spans.append((start, line.cell_len, action, node))
            line.append(" " * _GAP)
        self.update(line)

    async def on_click(self, event: Click) -> None:
        """Do what was clicked."""
        x = event.get_content_offset_capture(self).x
        for start, end, action, node in self._spans:
            if start <= x < end:
                await self.app.run_action(action, node)
