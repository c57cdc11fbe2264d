"""Write, rename and delete files so that a crash loses nothing: temporary name, fsync, atomic rename.

Everything that must survive a crash goes through the operations of :class:`Disk`; tests replace ``filesystem.disk`` by
one that fails.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StorageError

#: Fills a file; it may be called with any path.
Fill = Callable[[Path], object]

_BLOCK = 1 << 16


class Disk:
    """The file operations that a later start of the program depends on."""

    def write(self, path: Path, fill: Fill) -> None:
        """Write a file under a temporary name, which nobody reads yet."""
        fill(path)

    def append(self, path: Path, line: bytes) -> None:
        """Append a line to a log, whole or not at all (unless the process is killed meanwhile)."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            length = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, line)
                if written < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(descriptor, length)
                raise
        finally:
            os.close(descriptor)

    def sync(self, path: Path) -> None:
        """Flush a file's content, or a folder's list of names, to disk (fsync)."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if path.is_dir() or not _fully_synced(descriptor):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename atomically, replacing a file or link that has the name."""
        source.replace(target)

    def link(self, link: Path, target: str) -> None:
        """Create a symbolic link."""
        link.symlink_to(target)

    def truncate(self, path: Path, size: int) -> None:
        """Cut off the end of a log."""
        os.truncate(path, size)

    def remove(self, path: Path) -> None:
        """Remove a file, a link or a whole folder, if it exists."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _fully_synced(descriptor: int) -> bool:
    """Flush with F_FULLFSYNC on macOS, where fsync does not reach the disk; some external and network disks lack it."""
    if sys.platform != "darwin":
        return False
    import fcntl

    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    except OSError:
        return False
    return True


#: The disk in use.
disk = Disk()


def write_file(path: Path, fill: Fill) -> None:
    """Write a file atomically: ``path`` holds either its old content or all of the new one.

    Raises:
        StorageError: no space, no permission, or a failing disk; ``path`` is unchanged.
    """
    with _storage_errors(path):
        aside = aside_of(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fill_file(aside, fill)
            disk.sync(aside)
        except OSError:
            with contextlib.suppress(OSError):
                disk.remove(aside)  # the next try needs its space
            raise
        _commit(aside, path)


def fill_file(path: Path, fill: Fill) -> None:
    """Write a file into a folder that is still being made and will be committed as a whole.

    Raises:
        OSError: it could not be written (which MLX reports as a RuntimeError).
    """
    try:
        disk.write(path, fill)
    except RuntimeError as error:
        raise OSError(str(error)) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    content = text.encode()  # may fail, so before anything is written
    write_file(path, lambda aside: aside.write_bytes(content))


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON document atomically."""
    write_text(path, to_json(content))


def to_json(content: Any) -> str:
    """Format an indented JSON document."""
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def to_jsonl(rows: Iterable[dict[str, Any]]) -> str:
    """Format rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(path: Path, content: dict[str, Any], *, sync: bool) -> None:
    """Append a JSON object as a line to a log.

    Args:
        sync: flush it to disk before returning.
    """
    with _storage_errors(path):
        disk.append(path, (json.dumps(content, ensure_ascii=False) + "\n").encode())
        if sync:
            disk.sync(path)


def cut_torn_tail(path: Path) -> None:
    """Remove a last line that a crash left incomplete; needed before the first :func:`append_line`."""
    if not path.exists():
        return
    with _storage_errors(path):
        with path.open("rb") as file:
            end = size = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - _BLOCK)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
        if end < size:
            disk.truncate(path, end)


def make_folder(path: Path) -> None:
    """Create a folder if it does not exist.

    Raises:
        StorageError: it cannot be created, or a file has its name.
    """
    if _is_there(path) and not path.is_dir():
        raise StorageError(f"{path} is not a folder", hint="move it away")
    with _storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it becomes ``path`` if the block ends without an error, else it is removed.

    Each process fills its own: without a lock, another one may be making the same folder.

    Raises:
        StorageError: no space, no permission, a failing disk, or ``path`` exists already; it is unchanged.
    """
    with _storage_errors(path):
        remove_abandoned(path.parent, path.name)
        aside = aside_of(path.with_name(f"{path.name}.{os.getpid()}"))
        disk.remove(aside)
        aside.mkdir(parents=True)
        try:
            yield aside
            for file in (path for path in aside.rglob("*") if path.is_file()):
                disk.sync(file)
            commit_folder(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                disk.remove(aside)
            raise


def commit_folder(aside: Path, path: Path) -> None:
    """Rename a folder, whose files are already synced, to its final name."""
    with _storage_errors(path):
        disk.sync(aside)
        _commit(aside, path)


def point(link: Path, target: Path) -> None:
    """Make ``link`` a relative symbolic link to ``target``, replacing an older one atomically."""
    with _storage_errors(link):
        aside = aside_of(link)
        disk.remove(aside)
        disk.link(aside, os.path.relpath(target, link.parent))
        _commit(aside, link)


def remove(path: Path) -> None:
    """Remove a file or folder, if it exists."""
    with _storage_errors(path):
        disk.remove(path)


def remove_whole(path: Path) -> None:
    """Remove a folder so that at any moment it is either complete or gone."""
    with _storage_errors(path):
        aside = aside_of(path)
        disk.remove(aside)
        disk.rename(path, aside)
        disk.remove(aside)


def aside_of(path: Path) -> Path:
    """Return the temporary path of something that is not complete yet."""
    return path.with_name(f".{path.name}.partial")


def check_space(folder: Path, needed: int) -> None:
    """Check that a disk has enough free space.

    Args:
        needed: bytes.

    Raises:
        StorageError: less is free.
    """
    free = free_bytes(folder)
    if free < needed:
        raise StorageError(
            f"{folder}: {free / 1e6:.0f} MB are free, but the run may need {needed / 1e6:.0f} MB",
            hint="free some disk space, or put the run elsewhere with run.folder=FOLDER",
        )


def existing(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    while not _is_there(path):
        path = path.parent
    return path


def _is_there(path: Path) -> bool:
    """Return whether a path exists; False without permission to look, where ``Path.exists`` raises."""
    try:
        return path.exists()
    except PermissionError:
        return False


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk where a path is, or would be."""
    return shutil.disk_usage(existing(path)).free


def remove_abandoned(folder: Path, name: str = "*") -> None:
    """Remove partial files of dead processes from a folder: those of ``name``, by default all."""
    with _storage_errors(folder):
        for left in folder.glob(f".{name}.*.partial"):
            pid = left.name.split(".")[-2]
            if pid.isdecimal() and not _is_alive(int(pid)):
                disk.remove(left)


def _is_alive(pid: int) -> bool:
    try:
        with contextlib.suppress(PermissionError):  # alive, but of another user
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _commit(aside: Path, path: Path) -> None:
    disk.rename(aside, path)
    disk.sync(path.parent)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and _is_there(path):
            raise StorageError(f"{path} exists already", hint="another process just created it: try again") from error
        reason = error.strerror or str(error)
        raise StorageError(
            f"{path} could not be written: {reason} ({free_bytes(path) / 1e6:.0f} MB free)",
            hint="free some disk space, or fix the folder's permissions, and start again: no finished work is lost",
        ) from error
