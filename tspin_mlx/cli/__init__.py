"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; failures a user can act on become one message and an exit code."""
    from ..errors import TspinError
    from .app import app
    from .say import say

    try:
        app()
    except TspinError as error:
        say(f"error: {error.message}")
        if error.hint:
            say(f"  → {error.hint}")
        sys.exit(error.exit_code)
