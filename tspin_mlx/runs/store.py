"""The files of one run: written atomically, with their sha256 in ``manifest.jsonl``, and verified when read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base import filesystem
from ..base.errors import DamagedError

#: The file with the digests.
MANIFEST = "manifest.jsonl"


class Store:
    """The files below one folder. Names are relative to it; a file is written once and never changed.

    The digest is in the manifest before the file gets its name, so a crash between the two leaves an extra line, never
    a file without one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._manifest = _Manifest(root / MANIFEST)

    def recover(self) -> None:
        """Cut an incomplete last line off the manifest after a crash, before the first write."""
        filesystem.cut_torn_tail(self.root / MANIFEST)

    def has(self, name: str) -> bool:
        """Return whether a complete file or folder has this name."""
        return (self.root / name).exists()

    # --- writing

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 text file."""
        self._record({name: hashlib.sha256(text.encode()).hexdigest()})
        filesystem.write_text(self.root / name, text)

    def write_json(self, name: str, content: Any) -> None:
        """Write an indented JSON document."""
        self.write_text(name, filesystem.to_json(content))

    def write_jsonl(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write JSON lines."""
        self.write_text(name, filesystem.to_jsonl(rows))

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """Yield a temporary folder to fill, which gets its name if the block ends without an error."""
        with filesystem.new_folder(self.root / name) as aside:
            yield aside
            self._record_folder(aside, name)

    def commit_folder(self, aside: str, name: str) -> None:
        """Rename a folder that this store has filled to its final name."""
        self._record_folder(self.root / aside, name)
        filesystem.commit_folder(self.root / aside, self.root / name)

    def point(self, link: str, target: str) -> None:
        """Create a symbolic link within the run."""
        filesystem.point(self.root / link, self.root / target)

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it exists."""
        filesystem.remove(self.root / name)

    # --- reading

    def read_json(self, name: str) -> Any:
        """Read a JSON file and verify its sha256.

        Raises:
            DamagedError: it has changed since it was written.
        """
        return json.loads(self._read(name))

    def read_jsonl(self, name: str) -> list[dict[str, Any]]:
        """Read a file of JSON lines and verify its sha256.

        Raises:
            DamagedError: it has changed since it was written.
        """
        # Not str.splitlines, which also splits at U+2028 and others, which JSON does not escape.
        return [json.loads(line) for line in self._read(name).split("\n") if line]

    def damaged(self, name: str) -> list[str]:
        """List the files at or below ``name`` that have changed since they were written, or are missing."""
        path, written = self.root / name, self.digests(name)
        files = [path] if path.is_file() else _files_below(path)
        actual = {file.relative_to(self.root).as_posix(): filesystem.sha256_of(file) for file in files}
        return sorted(file for file in actual.keys() | written.keys() if actual.get(file) != written.get(file))

    def digests(self, name: str) -> dict[str, str]:
        """Return the recorded sha256 of each file at or below ``name``."""
        known = self._digests()
        return {file: known[file] for file in known if file == name or file.startswith(f"{name}/")}

    def digest(self, name: str) -> str | None:
        """Return the recorded sha256 of a file."""
        return self._digests().get(name)

    def is_intact(self, name: str) -> bool:
        """Return whether a file or folder exists and is unchanged."""
        return self.has(name) and not self.damaged(name)

    def _read(self, name: str) -> str:
        try:
            content = (self.root / name).read_bytes()
        except OSError as error:
            raise DamagedError(f"{self.root / name} cannot be read: {error.strerror}") from None
        if self._digests().get(name) != hashlib.sha256(content).hexdigest():
            raise DamagedError(f"{self.root / name} has changed since it was written (sha256 differs)", hint=REPAIR)
        return content.decode()

    # --- the manifest

    def _record(self, digests: dict[str, str]) -> None:
        for name, digest in digests.items():
            last = name == next(reversed(digests))
            filesystem.append_line(self.root / MANIFEST, {"file": name, "sha256": digest}, sync=last)

    def _record_folder(self, aside: Path, name: str) -> None:
        files = _files_below(aside)
        self._record({f"{name}/{file.relative_to(aside).as_posix()}": filesystem.sha256_of(file) for file in files})

    def _digests(self) -> dict[str, str]:
        """Return sha256 by name; the last line for a name counts."""
        return self._manifest.read()


#: What to do about a damaged file.
REPAIR = (
    "remove it and resume, which computes exactly the same result again; or start a new run from the intact results "
    "with `tspin-mlx run RECIPE --fork NAME`"
)


class _Manifest:
    """The manifest; only lines added since the last read are parsed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._digests: dict[str, str] = {}
        self._lines = self._length = 0  # read so far, without an incomplete last line
        self._seen: tuple[int, int, int] | None = None  # inode, size and time of the file then

    def read(self) -> dict[str, str]:
        """Return sha256 by name.

        Raises:
            DamagedError: the manifest is missing, or a line is damaged.
        """
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                now = (status.st_ino, status.st_size, status.st_mtime_ns)
                if now == self._seen:
                    return self._digests
                if self._seen is None or now[0] != self._seen[0] or now[1] <= self._seen[1]:
                    self._forget()
                file.seek(self._length)
                added = file.read()
        except OSError as error:
            raise DamagedError(f"{self._path} cannot be read: {error.strerror}", hint=REPAIR) from None
        whole = added[: added.rfind(b"\n") + 1]
        for line in whole.split(b"\n")[:-1]:
            self._lines += 1
            try:
                row = json.loads(line)
                self._digests[row["file"]] = row["sha256"]
            except (ValueError, KeyError, TypeError):
                number = self._lines
                self._forget()
                raise DamagedError(f"{self._path}:{number} is damaged", hint=REPAIR) from None
        self._length += len(whole)
        self._seen = now
        return self._digests


def _files_below(folder: Path) -> list[Path]:
    """List all files except hidden ones: those are never ours, but macOS's Finder creates some."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
