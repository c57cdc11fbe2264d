"""The terminal app, in Textual. It shows run folders and starts processes; it loads neither MLX nor a model."""

from __future__ import annotations

from pathlib import Path


def open_app(folder: Path = Path("runs"), run: Path | None = None) -> int:
    """Show the runs of a folder, or one run, until the user quits; training does not depend on the app.

    Args:
        folder: holds the runs.
        run: the run to show first; without one, the list of runs.

    Returns:
        The exit code.
    """
    from .app import TspinApp

    app = TspinApp(folder, run)
    app.run()
    return app.return_code or 0
