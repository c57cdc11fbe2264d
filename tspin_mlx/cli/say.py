"""Messages for people, on stderr."""

from __future__ import annotations

import sys

from ..text import printable


def say(text: str) -> None:
    """Print a message; whatever is in it, the terminal shows it and does not obey it."""
    print(printable(text, keep_newlines=True), file=sys.stderr, flush=True)  # noqa: T201
