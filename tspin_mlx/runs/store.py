"""The one place that makes something durable: written aside, synced, then renamed to its final name.

A name that exists is complete. Every write of a run goes through here.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a file so that ``path`` holds either its old content or all of ``text``."""
    aside = _aside(path)
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        _sync(file.fileno())
    _commit(aside, path)


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document, indented."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The JSON document in ``path``."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    # Not str.splitlines: it would also split at U+2028 and others, which JSON leaves unescaped.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it becomes ``path`` when the block ends without an error, else it disappears."""
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for file in (path for path in aside.rglob("*") if path.is_file()):
            with file.open("rb") as handle:
                _sync(handle.fileno())
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    commit_folder(aside, path)


def commit_folder(aside: Path, path: Path) -> None:
    """Give a finished folder, whose files are already synced, its final name."""
    _sync_folder(aside)
    _commit(aside, path)


def point(link: Path, target: Path) -> None:
    """Make ``link`` a relative symbolic link to ``target``, replacing an older one at once."""
    aside = _aside(link)
    aside.unlink(missing_ok=True)
    aside.symlink_to(os.path.relpath(target, link.parent))
    _commit(aside, link)


def _aside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.partial")


def _commit(aside: Path, path: Path) -> None:
    aside.replace(path)
    _sync_folder(path.parent)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync on macOS does not reach the medium
    else:
        os.fsync(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
