"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

import sys
import warnings


def main() -> None:
    """Run the command line; failures a user can act on become one message and an exit code."""
    from ..base.errors import TspinError
    from .console import complain, say

    warnings.showwarning = lambda message, *_: say(f"note: {message}")  # such as of a key that has another name now
    try:
        if len(sys.argv) == 1 and sys.stdin.isatty() and sys.stdout.isatty():
            from .screens import home  # without the commands, which take a while to import

            home()
        from .app import app

        app()
    except TspinError as error:
        complain(error)
        sys.exit(error.exit_code)
