"""Failures that a user can act on. Everything else is a bug and keeps its traceback."""

from __future__ import annotations


class TspinError(Exception):
    """What went wrong in one sentence, and what to do next.

    Args:
        message: names the file, line or key that is at fault.
        hint: the next step, usually a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TspinError):
    """A wrong argument, recipe or run name."""

    exit_code = 2


class RecipeError(UsageError):
    """The recipe is not valid."""


class DataError(UsageError):
    """A data file or one of its rows cannot be used."""


class SetupError(TspinError):
    """Something on this machine is missing: a package, a model, a file's permission."""

    exit_code = 3


class HubError(TspinError):
    """The Hugging Face Hub refused or could not be reached."""

    exit_code = 5


class DivergedError(TspinError):
    """A loss or gradient was not finite; no update was made from it."""

    exit_code = 6
