"""File lock (flock) of a run: one writer at a time; the system releases it when its holder exits or crashes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from ..base.errors import BusyError, StorageError
from ..base.paths import typed

_PATIENCE_S = 0.3  # checking the lock holds it for some microseconds
_SIZE = 64  # bytes of its content


class RunLock:
    """The lock of one run, held as long as any process has its descriptor open.

    Args:
        descriptor: of a lock file that this process, or the one that started it, has locked.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, run: Path) -> RunLock:
        """Take the lock of a run.

        Raises:
            BusyError: another process holds it; the message names it.
            StorageError: the folder cannot be written to, or its disk does not support locks.
        """
        try:
            descriptor = os.open(_file(run), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unlockable(run, error) from None
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write(descriptor, os.getpid())
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                os.close(descriptor)
                raise busy(run) from None
            except OSError as error:
                os.close(descriptor)
                raise _unlockable(run, error) from None
            return cls(descriptor)

    def name_worker(self, pid: int) -> None:
        """Write down which process to signal. If that fails, the previous one stays."""
        with contextlib.suppress(OSError):
            _write(self.descriptor, pid)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock, unless another process has the descriptor open too."""
        os.close(self.descriptor)


def _write(descriptor: int, pid: int) -> None:
    """Overwrite the content with text of the same length: a reader sees the old or the new one, never a mixture."""
    content = json.dumps({"pid": pid, "since": round(time.time(), 3)})
    os.pwrite(descriptor, content.ljust(_SIZE).encode(), 0)


def is_held(run: Path) -> bool:
    """Return whether some process holds the run's lock."""
    try:
        descriptor = os.open(_file(run), os.O_RDONLY)
    except OSError:  # never locked, or not lockable
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks
        return False
    else:
        return False
    finally:
        os.close(descriptor)


def holder(run: Path) -> dict[str, Any] | None:
    """Return ``pid`` and ``since`` (seconds since 1970) of the process that holds the lock; None if none does."""
    if not is_held(run):
        return None
    try:
        content = json.loads(_file(run).read_text())
        return {"pid": int(content["pid"]), "since": float(content["since"])}
    except (ValueError, KeyError, TypeError, OSError):
        return None  # not written yet


def who_holds(run: Path) -> str:
    """Name the process that holds the lock, in words."""
    first = holder(run)
    return f"process {first['pid']}" if first else "another process"


def busy(run: Path) -> BusyError:
    """Return the error that a second process gets."""
    return BusyError(
        f"the run {run.name!r} is in use by {who_holds(run)}",
        hint=f"`tspin-mlx watch {typed(run)}` shows it, `tspin-mlx stop {typed(run)}` stops it",
    )


def _unlockable(run: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{run} cannot be locked: {error.strerror}",
        hint="put runs on a local disk with write permission: run.folder=FOLDER",
    )


def _file(run: Path) -> Path:
    return run / "lock"
