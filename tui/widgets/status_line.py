"""A text that is told often: what has not changed is not drawn again, and only another height moves the rest."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class Told(Static):
    """Shows a text."""

    _last: Text | None = None

    def tell(self, text: Text) -> None:
        """Show another text."""
        before, self._last = self._last, text
        if before is None or before != text or before.spans != text.spans:
            self.update(text, layout=before is None or _shape(before) != _shape(text))


def _shape(text: Text) -> list[int]:
    """What decides how high it is: lines that are too long are wrapped."""
    return [line.cell_len for line in text.split("\n", allow_blank=True)]
