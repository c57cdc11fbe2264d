"""Exceptions that a user can act on, with their exit codes. Everything else is a bug and keeps its traceback."""

from __future__ import annotations


class TspinError(Exception):
    """An error message in one sentence, with a hint about what to do next.

    Args:
        message: names the file, line or key at fault.
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
    """Something is missing on this machine: a package, a model, a file permission."""

    exit_code = 3


class BusyError(TspinError):
    """Another process is working on the run."""

    exit_code = 8


class HubError(TspinError):
    """The Hugging Face Hub refused a request or could not be reached."""

    exit_code = 5


class DivergedError(TspinError):
    """A loss or gradient was not finite; it was not used for an update."""

    exit_code = 6


class StorageError(TspinError):
    """A file could not be written: no space, no permission, a failing disk."""

    exit_code = 7


class DamagedError(StorageError):
    """A file of a run is damaged: its checksum or format is wrong."""


class ResourcesError(TspinError):
    """Out of memory, or a computation took longer than the GPU watchdog allows."""

    exit_code = 4


class Stopped(Exception):
    """The run was asked to stop; everything that is finished is kept.

    Args:
        exit_code: 130 after SIGINT, 143 after SIGTERM or a request.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"stopped with exit code {exit_code}")
        self.exit_code = exit_code


def error_of(exit_code: int) -> type[TspinError]:
    """Return the exception class for the exit code of a process."""
    kinds = (UsageError, SetupError, ResourcesError, HubError, DivergedError, StorageError, BusyError)
    return next((kind for kind in kinds if kind.exit_code == exit_code), TspinError)
