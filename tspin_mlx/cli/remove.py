"""``runs rm``."""

from __future__ import annotations

from pathlib import Path

from ..jobs.control import remove
from ..runs.lock import busy, is_held
from ..runs.run import find_run, named_path
from .console import confirm, say


def remove_runs(names: list[str], folder: Path, *, sure: bool) -> None:
    """Ask, then remove; nothing, if any of them is no run or is being worked on."""
    paths = [_removable(name, folder) for name in dict.fromkeys(names)]
    for path in paths:
        say(f"{path}  {_size(path) / 1e6:.0f} MB")
    if not sure:
        confirm("Remove for good?", "nothing was removed")
    for path in paths:
        remove(path)


def _removable(name: str, folder: Path) -> Path:
    path = named_path(name, folder)
    if not (path / "run.json").is_file():
        find_run(name, folder)  # says what may have been meant
    if is_held(path):
        raise busy(path)
    return path


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
