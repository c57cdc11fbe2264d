"""File paths from and for the command line: expand ``~``, reject invalid ones, print them as arguments."""

from __future__ import annotations

from pathlib import Path

from .errors import UsageError


def user_path(text: str) -> Path:
    """Parse a path that a user typed, existing or not; ``~`` is a home folder.

    Raises:
        UsageError: not a valid path: the home of an unknown user, too long, or with a NUL character.
    """
    try:
        if "\0" in text:
            raise ValueError("it contains a NUL character")
        path = Path(text).expanduser()
        path.exists()
    except PermissionError:
        return path
    except (RuntimeError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UsageError(f"{shown!r} is not a valid path: {reason}") from None
    return path


def typed(path: Path) -> str:
    """Format a path as an argument: ``./name``, since a name without a slash would be looked up among the runs."""
    return str(path) if len(path.parts) > 1 else f"./{path}"
