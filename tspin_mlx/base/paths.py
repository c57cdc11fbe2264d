"""Paths as people type them."""

from __future__ import annotations

from pathlib import Path

from .errors import UsageError


def user_path(text: str) -> Path:
    """A path, whether something is there or not, with ``~`` for a home folder.

    Raises:
        UsageError: it cannot be one: the home of an unknown user, too long, or with a NUL character.
    """
    try:
        if "\0" in text:
            raise ValueError("it has a NUL character")
        path = Path(text).expanduser()
        path.exists()
    except PermissionError:
        return path
    except (RuntimeError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UsageError(f"{shown!r} cannot be a path: {reason}") from None
    return path


def typed(path: Path) -> str:
    """A path as an argument: a name without a slash is looked for in the folder of the runs."""
    return str(path) if len(path.parts) > 1 else f"./{path}"
