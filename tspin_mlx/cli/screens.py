"""Open the terminal app."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from tspin_mlx.tui import open_app

from ..runs.lock import is_held
from ..runs.run import Run
from .console import say


def home(folder: Path = Path("runs")) -> NoReturn:
    """Open the list of runs, as `tspin-mlx` does without a command, and exit."""
    sys.exit(open_app(folder))


def show_run(run: Run) -> NoReturn:
    """Open the screen of a run; then print how to come back, if it still trains, and exit."""
    from ..jobs.control import in_background

    code = open_app(run.path.parent, run.path)
    if is_held(run.path):
        say(in_background(run))
    sys.exit(code)


def is_terminal() -> bool:
    """Whether a person can see the screen and press keys."""
    return sys.stdin.isatty() and sys.stdout.isatty()
