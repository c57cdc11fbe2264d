"""Exports on disk: ``exports/NAME`` in the run's folder, complete or not there, each with a note of what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import storage
from ..base.errors import DamagedError, UsageError
from ..recipe.schema import check_name
from ..runs.store import MANIFEST, Store

#: The note inside an export. It names what the export was made from, and no path of this machine.
NOTE = "export.json"


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        path: its folder.
        note: what it was made from, and what was measured of it.
        made: whether it was made just now; else it was there already.
    """

    path: Path
    note: dict[str, Any]
    made: bool

    def files(self) -> list[Path]:
        """Its files, the note among them, in the order of their names."""
        return sorted(path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))


def keep(store: Store, name: str, origin: dict[str, Any], fill: Callable[[Path], dict[str, Any] | None]) -> Export:
    """Make an export, or find the same one that was made before.

    Args:
        store: of the run's exports.
        origin: what the export is made from. It decides whether one with this name is the same.
        fill: fills a folder; what it returns (measurements) goes into the note.

    Raises:
        UsageError: it cannot be a name, or the name is taken by an export of something else.
        DamagedError: the export that is there is not what was written.
    """
    check_name(name, "an export")
    if name == MANIFEST:
        raise UsageError(f"{name!r} cannot be the name of an export: a file beside them has it")
    if store.has(name):
        return _found(store, name, origin)
    storage.make_folder(store.root)
    store.recover()
    storage.remove_abandoned(store.root)
    with store.new_folder(name) as folder:
        note = {**origin, **(fill(folder) or {})}
        (folder / NOTE).write_text(storage.to_json(note), encoding="utf-8")
    return Export(store.root / name, note, made=True)


def _found(store: Store, name: str, origin: dict[str, Any]) -> Export:
    path = store.root / name
    try:
        note = json.loads((path / NOTE).read_bytes())
    except (OSError, ValueError):
        note = {}
    if any(note.get(key) != value for key, value in origin.items()):
        raise UsageError(f"{path} exists already, and was made from something else", hint="choose another --out NAME")
    if damaged := store.damaged(name):
        raise DamagedError(f"{store.root / damaged[0]} is not what was written there", hint=f"remove {path}, try again")
    return Export(path, note, made=False)
