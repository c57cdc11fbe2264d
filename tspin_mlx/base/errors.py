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


class BusyError(TspinError):
    """Another process works on the run."""

    exit_code = 8


class HubError(TspinError):
    """The Hugging Face Hub refused or could not be reached."""

    exit_code = 5


class DivergedError(TspinError):
    """A loss or gradient was not finite; no update was made from it."""

    exit_code = 6


class StorageError(TspinError):
    """Something could not be written: no space, no permission, a failing disk."""

    exit_code = 7


class DamagedError(StorageError):
    """A file of a run is not what was written there."""


class ResourcesError(TspinError):
    """It does not fit into memory, or took longer than the GPU waits."""

    exit_code = 4


class Stopped(Exception):
    """The run was asked to stop; everything finished is kept.

    Args:
        exit_code: 130 after SIGINT, 143 after SIGTERM or a request.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"stopped with exit code {exit_code}")
        self.exit_code = exit_code


def error_of(exit_code: int) -> type[TspinError]:
    """The kind of error that a process ended with, by its exit code."""
    kinds = (UsageError, SetupError, ResourcesError, HubError, DivergedError, StorageError, BusyError)
    return next((kind for kind in kinds if kind.exit_code == exit_code), TspinError)
