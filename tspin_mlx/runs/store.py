"""The files of one run: written durably, each with its sha256 in ``manifest.jsonl``, and read with that in mind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base import storage
from ..base.errors import DamagedError

#: The file of the digests.
MANIFEST = "manifest.jsonl"


class Store:
    """What is kept below one folder. Names are relative to it; a file is written once and not changed.

    A file's digest is in the manifest before the file has its name, so that a crash between the two leaves a line
    too many and never a file without one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._manifest = _Manifest(root / MANIFEST)

    def recover(self) -> None:
        """After a crash, before the first write: cut what it left half-written off the manifest."""
        storage.cut_torn_tail(self.root / MANIFEST)

    def has(self, name: str) -> bool:
        """Whether something is complete under this name."""
        return (self.root / name).exists()

    # --- writing

    def write_text(self, name: str, text: str) -> None:
        """Write a file in UTF-8."""
        self._record({name: hashlib.sha256(text.encode()).hexdigest()})
        storage.write_text(self.root / name, text)

    def write_json(self, name: str, content: Any) -> None:
        """Write one JSON document, indented."""
        self.write_text(name, storage.to_json(content))

    def write_jsonl(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write one JSON object per line."""
        self.write_text(name, storage.to_jsonl(rows))

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """A folder to fill, which gets its name when the block ends without an error."""
        with storage.new_folder(self.root / name) as aside:
            yield aside
            self._record_folder(aside, name)

    def commit_folder(self, aside: str, name: str) -> None:
        """Give a folder that was filled by this store its final name."""
        self._record_folder(self.root / aside, name)
        storage.commit_folder(self.root / aside, self.root / name)

    def point(self, link: str, target: str) -> None:
        """Make a symbolic link within the run."""
        storage.point(self.root / link, self.root / target)

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it is there."""
        storage.remove(self.root / name)

    # --- reading

    def read_json(self, name: str) -> Any:
        """The document in a file, if the file is what was written.

        Raises:
            DamagedError: it is not.
        """
        return json.loads(self._read(name))

    def read_jsonl(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file, if the file is what was written.

        Raises:
            DamagedError: it is not.
        """
        # Not str.splitlines: it would also split at U+2028 and others, which JSON leaves unescaped.
        return [json.loads(line) for line in self._read(name).split("\n") if line]

    def damaged(self, name: str) -> list[str]:
        """Names of the files at or below ``name`` that are not what was written, or are missing."""
        path, written = self.root / name, self.digests(name)
        files = [path] if path.is_file() else _files_below(path)
        found = {file.relative_to(self.root).as_posix(): storage.sha256_of(file) for file in files}
        return sorted(file for file in found.keys() | written.keys() if found.get(file) != written.get(file))

    def digests(self, name: str) -> dict[str, str]:
        """The sha256 of each file at or below ``name``, as it was written."""
        known = self._digests()
        return {file: known[file] for file in known if file == name or file.startswith(f"{name}/")}

    def digest(self, name: str) -> str | None:
        """The sha256 with which a file was written."""
        return self._digests().get(name)

    def is_intact(self, name: str) -> bool:
        """Whether something is there, and is what was written."""
        return self.has(name) and not self.damaged(name)

    def _read(self, name: str) -> str:
        try:
            content = (self.root / name).read_bytes()
        except OSError as error:
            raise DamagedError(f"{self.root / name} cannot be read: {error.strerror}") from None
        if self._digests().get(name) != hashlib.sha256(content).hexdigest():
            raise DamagedError(f"{self.root / name} is not what was written there (its sha256 differs)", hint=REPAIR)
        return content.decode()

    # --- the manifest

    def _record(self, digests: dict[str, str]) -> None:
        for name, digest in digests.items():
            last = name == next(reversed(digests))
            storage.append_line(self.root / MANIFEST, {"file": name, "sha256": digest}, sync=last)

    def _record_folder(self, aside: Path, name: str) -> None:
        files = _files_below(aside)
        self._record({f"{name}/{file.relative_to(aside).as_posix()}": storage.sha256_of(file) for file in files})

    def _digests(self) -> dict[str, str]:
        """sha256 by name; of several lines for a name the last counts."""
        return self._manifest.read()


#: What to do about a damaged file.
REPAIR = (
    "a result can be made again exactly: remove it and resume; or start anew from what is intact with "
    "`tspin-mlx run RECIPE --fork NAME`"
)


class _Manifest:
    """The manifest, of which only lines that were added since are read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._digests: dict[str, str] = {}
        self._lines = self._length = 0  # what was read, without a last line that has no end yet
        self._seen: tuple[int, int, int] | None = None  # inode, size and time of the file then

    def read(self) -> dict[str, str]:
        """sha256 by name.

        Raises:
            DamagedError: it is missing, or a line is none.
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
    """All files but hidden ones, which are never ours; macOS's Finder leaves some in folders that one looks into."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
