"""Make things durable: written aside, synced, then renamed. A name that exists is complete.

Everything that must survive a crash goes through the operations of :class:`Disk`; tests put one that fails in its
place (``durable.disk``).
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
    """The operations that change what a later start of the program will find."""

    def write(self, path: Path, fill: Fill) -> None:
        """Make a file under a name that nobody reads yet."""
        fill(path)

    def append(self, path: Path, line: bytes) -> None:
        """Add a line to a log, whole or not at all (unless the process is killed meanwhile)."""
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
        """Bring a file's content, or a folder's list of names, to the medium."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if path.is_dir() or not _fully_synced(descriptor):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give something its final name, replacing a file or link that has it."""
        source.replace(target)

    def link(self, link: Path, target: str) -> None:
        """Make a symbolic link."""
        link.symlink_to(target)

    def truncate(self, path: Path, size: int) -> None:
        """Cut the end of a log off."""
        os.truncate(path, size)

    def remove(self, path: Path) -> None:
        """Remove a file, a link or a whole folder, if it is there."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _fully_synced(descriptor: int) -> bool:
    """On macOS, where fsync does not reach the medium; some external and network disks know no other way."""
    if sys.platform != "darwin":
        return False
    import fcntl

    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    except OSError:
        return False
    return True


#: What carries the operations out.
disk = Disk()


def write_file(path: Path, fill: Fill) -> None:
    """Make a file so that ``path`` holds either its old content or all of the new one.

    Raises:
        StorageError: no space, no permission, or a failing disk; ``path`` is as it was.
    """
    with _storage_errors(path):
        aside = aside_of(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fill_file(aside, fill)
            disk.sync(aside)
        except OSError:
            with contextlib.suppress(OSError):
                disk.remove(aside)  # what is left of it takes space that the next try needs
            raise
        _commit(aside, path)


def fill_file(path: Path, fill: Fill) -> None:
    """Write a file within a folder that is being made, whose end decides of all that is in it.

    Raises:
        OSError: it could not be written; MLX reports that as a RuntimeError.
    """
    try:
        disk.write(path, fill)
    except RuntimeError as error:
        raise OSError(str(error)) from error


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, at once."""
    content = text.encode()  # before anything is touched: not every str has an encoding
    write_file(path, lambda aside: aside.write_bytes(content))


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document, indented."""
    write_text(path, to_json(content))


def to_json(content: Any) -> str:
    """An indented JSON document."""
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def to_jsonl(rows: Iterable[dict[str, Any]]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sha256_of(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(path: Path, content: dict[str, Any], *, sync: bool) -> None:
    """Add a JSON object as a line to a log.

    Args:
        sync: bring it to the medium before returning.
    """
    with _storage_errors(path):
        disk.append(path, (json.dumps(content, ensure_ascii=False) + "\n").encode())
        if sync:
            disk.sync(path)


def cut_torn_tail(path: Path) -> None:
    """Remove a last line that a crash left without its end; needed before the first :func:`append_line`."""
    if not path.exists():
        return
    with _storage_errors(path):
        with path.open("rb") as file:
            end = size = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - _BLOCK)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    end = start + found + 1
                    break
                end = start
        if end < size:
            disk.truncate(path, end)


def make_folder(path: Path) -> None:
    """A folder, if it is not there.

    Raises:
        StorageError: it cannot be made, or a file has its name.
    """
    if _is_there(path) and not path.is_dir():
        raise StorageError(f"{path} is no folder", hint="move it away")
    with _storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it becomes ``path`` when the block ends without an error, else it disappears.

    Each process fills one of its own: another may be making the same where no lock is held.

    Raises:
        StorageError: no space, no permission, a failing disk, or ``path`` exists already; it is as it was.
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
    """Give a folder, whose files are already synced, its final name."""
    with _storage_errors(path):
        disk.sync(aside)
        _commit(aside, path)


def point(link: Path, target: Path) -> None:
    """Make ``link`` a relative symbolic link to ``target``, replacing an older one at once."""
    with _storage_errors(link):
        aside = aside_of(link)
        disk.remove(aside)
        disk.link(aside, os.path.relpath(target, link.parent))
        _commit(aside, link)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    with _storage_errors(path):
        disk.remove(path)


def remove_whole(path: Path) -> None:
    """Remove a folder so that it is either there, with all that it holds, or gone."""
    with _storage_errors(path):
        aside = aside_of(path)
        disk.remove(aside)
        disk.rename(path, aside)
        disk.remove(aside)


def aside_of(path: Path) -> Path:
    """Where something is made before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what would fill the disk.

    Args:
        needed: bytes.

    Raises:
        StorageError: less is free.
    """
    free = free_bytes(folder)
    if free < needed:
        raise StorageError(
            f"{folder}: {free / 1e6:.0f} MB are free there, and the run may need {needed / 1e6:.0f} MB",
            hint="make room, or put the run elsewhere with run.folder=FOLDER",
        )


def existing(path: Path) -> Path:
    """The path itself, or the nearest of the folders that would hold it."""
    while not _is_there(path):
        path = path.parent
    return path


def _is_there(path: Path) -> bool:
    """As far as one may look: ``Path.exists`` raises where one may not."""
    try:
        return path.exists()
    except PermissionError:
        return False


def free_bytes(path: Path) -> int:
    """What is free on the disk where a path is, or would be."""
    return shutil.disk_usage(existing(path)).free


def remove_abandoned(folder: Path, name: str = "*") -> None:
    """Remove what processes that have died left half-made of a folder's ``name``, or of everything in it."""
    with _storage_errors(folder):
        for left in folder.glob(f".{name}.*.partial"):
            pid = left.name.split(".")[-2]
            if pid.isdecimal() and not _is_alive(int(pid)):
                disk.remove(left)


def _is_alive(pid: int) -> bool:
    try:
        with contextlib.suppress(PermissionError):  # it lives, and belongs to another user
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
            raise StorageError(f"{path} exists already", hint="another process has just made it: try again") from error
        reason = error.strerror or str(error)
        raise StorageError(
            f"{path} could not be written: {reason} ({free_bytes(path) / 1e6:.0f} MB are free there)",
            hint="make room, or see to the folder's permissions, and start again: nothing that was finished is lost",
        ) from error
