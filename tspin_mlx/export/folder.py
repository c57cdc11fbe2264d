"""Export folders: ``exports/NAME`` in the run's folder, created atomically, each with metadata in ``export.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import filesystem
from ..base.errors import DamagedError, UsageError
from ..recipe.schema import check_name
from ..runs.store import MANIFEST, Store

#: The metadata of an export: what it was made from, without local paths.
NOTE = "export.json"


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        path: its folder.
        note: what it was made from, and its measurements.
        made: whether it was made just now; else it already existed.
    """

    path: Path
    note: dict[str, Any]
    made: bool

    def files(self) -> list[Path]:
        """List its files including the metadata, sorted by name."""
        return sorted(path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))


def make_export(
    store: Store, name: str, origin: dict[str, Any], fill: Callable[[Path], dict[str, Any] | None]
) -> Export:
    """Make an export, or return the same one if it was made before.

    Args:
        store: of the run's exports.
        origin: what the export is made from; one of this name with the same origin is the same export.
        fill: fills a folder, and returns measurements for the metadata.

    Raises:
        UsageError: the name is invalid, or taken by an export of something else.
        DamagedError: the existing export has changed since it was written.
    """
    check_name(name, "an export")
    if name == MANIFEST:
        raise UsageError(f"{name!r} cannot be the name of an export: it is reserved")
    if store.has(name):
        return _existing(store, name, origin)
    filesystem.make_folder(store.root)
    store.recover()
    filesystem.remove_abandoned(store.root)
    with store.new_folder(name) as folder:
        note = {**origin, **(fill(folder) or {})}
        (folder / NOTE).write_text(filesystem.to_json(note), encoding="utf-8")
    return Export(store.root / name, note, made=True)


def _existing(store: Store, name: str, origin: dict[str, Any]) -> Export:
    path = store.root / name
    try:
        note = json.loads((path / NOTE).read_bytes())
    except (OSError, ValueError):
        note = {}
    if any(note.get(key) != value for key, value in origin.items()):
        raise UsageError(f"{path} exists already, and was made from something else", hint="choose another --out NAME")
    if damaged := store.damaged(name):
        raise DamagedError(
            f"{store.root / damaged[0]} has changed since it was written", hint=f"remove {path} to retry"
        )
    return Export(path, note, made=False)
