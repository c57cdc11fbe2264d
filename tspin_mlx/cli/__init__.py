"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; failures a user can act on become one message and an exit code."""
    from ..errors import TspinError
    from .app import app

    try:
        app()
    except TspinError as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"  → {error.hint}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
