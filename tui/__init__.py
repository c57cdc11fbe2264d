"""The terminal app: it reads run folders and starts processes; it never loads a model, nor MLX."""

from __future__ import annotations

from pathlib import Path


def open_app(folder: Path = Path("runs"), run: Path | None = None) -> int:
    """Show the runs of a folder, or one run, until the user leaves; nothing that trains depends on it.

    Args:
        folder: holds the runs.
        run: the run to show first.

    Returns:
        The exit code.
    """
    from .app import TspinApp

    app = TspinApp(folder, run)
    app.run()
    return app.return_code or 0
