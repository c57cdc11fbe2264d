"""Messages and questions on stderr."""

from __future__ import annotations

import sys

from ..base.errors import TspinError, UsageError
from ..base.text import printable


def say(text: str) -> None:
    """Print a message, without the control characters that a terminal would obey."""
    print(printable(text, keep_newlines=True), file=sys.stderr, flush=True)  # noqa: T201


def complain(error: TspinError) -> None:
    """Print what went wrong, and what can be done about it."""
    say(f"error: {error.message}" + (f"\n  → {error.hint}" if error.hint else ""))


def confirm(question: str, otherwise: str) -> None:
    """Ask before something that cannot be undone, and end the command unless the answer is yes.

    Args:
        otherwise: the message if it is no.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    import typer  # takes a while, and the app does without

    if not sys.stdin.isatty():
        raise UsageError(f"{otherwise}: nobody is there to say yes", hint="--yes says it")
    if not typer.confirm(question, default=False, err=True):
        say(otherwise)
        raise typer.Exit(1)
