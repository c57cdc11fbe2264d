"""Status line: text that is updated often, and redrawn or laid out again only when that is needed."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class StatusLine(Static):
    """A text of one or more lines."""

    _last: Text | None = None

    def show(self, text: Text) -> None:
        """Show a text; nothing is redrawn if it is the same as before."""
        before, self._last = self._last, text
        if before is None or before != text or before.spans != text.spans:
            self.update(text, layout=before is None or _line_lengths(before) != _line_lengths(text))


def _line_lengths(text: Text) -> list[int]:
    """Return the length of each line; they determine the height, because long lines wrap."""
    return [line.cell_len for line in text.split("\n", allow_blank=True)]
