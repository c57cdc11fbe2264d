"""The files of one run: written durably, each with its sha256 in ``manifest.jsonl``, and read with that in mind."""

from __future__ import annotations

import hashlib
import json
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
        path = self.root / MANIFEST
        try:
            lines = path.read_bytes().split(b"\n")[:-1]  # what has no end yet was not finished
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}", hint=REPAIR) from None
        digests = {}
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                digests[row["file"]] = row["sha256"]
            except (ValueError, KeyError, TypeError):
                raise DamagedError(f"{path}:{number} is damaged", hint=REPAIR) from None
        return digests


#: What to do about a damaged file.
REPAIR = (
    "a result can be made again exactly: remove it and resume; or start anew from what is intact with "
    "`tspin-mlx run RECIPE --fork NAME`"
)


def _files_below(folder: Path) -> list[Path]:
    """All files but hidden ones, which are never ours; macOS's Finder leaves some in folders that one looks into."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
