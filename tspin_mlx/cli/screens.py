"""The way to the terminal app."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from ..base.errors import UsageError
from .console import say


def home(folder: Path = Path("runs")) -> NoReturn:
    """The list of runs; `tspin-mlx` without a command."""
    from tspin_mlx.tui import open_app

    sys.exit(open_app(folder))


def show_run(run: Path) -> NoReturn:
    """The screen of a run; afterwards, whether training goes on and how to come back."""
    from tspin_mlx.tui import open_app

    from ..jobs.control import in_background
    from ..runs.lock import is_held
    from ..runs.run import Run

    code = open_app(run.parent, run)
    if is_held(run):
        say(in_background(Run(run)))
    sys.exit(code)


def require_terminal(*, as_json: bool, detach: bool, plain: bool) -> None:
    """Refuse ``--tui`` where nothing could be shown.

    Raises:
        UsageError: no terminal, or an option that contradicts it.
    """
    if as_json or detach or plain:
        raise UsageError("--tui does not go together with --json, --detach or --plain")
    if not is_terminal():
        raise UsageError("--tui needs a terminal", hint="leave it out: progress is then told in lines")


def is_terminal() -> bool:
    """Whether a person looks and can press keys."""
    return sys.stdin.isatty() and sys.stdout.isatty()
