"""Choose a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DirectoryTree, Static

from ..keys import bound


class _Files(DirectoryTree):
    """Folders, and the files of some kinds."""

    def __init__(self, folder: Path, endings: tuple[str, ...]) -> None:
        super().__init__(folder)
        self._endings = endings

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """What may be chosen, and the way there."""
        seen = [path for path in paths if not path.name.startswith(".")]
        return [path for path in seen if path.is_dir() or path.suffix in self._endings]


class FilePicker(ModalScreen[Path | None]):
    """A file, or None.

    Args:
        folder: where to begin.
        endings: of the files that are shown, such as ``.jsonl``.
    """

    BINDINGS: ClassVar[list[BindingType]] = [bound("back", "dismiss", "none")]

    def __init__(self, folder: Path, endings: tuple[str, ...]) -> None:
        super().__init__()
        self._folder, self._endings = folder, endings

    def compose(self) -> ComposeResult:
        """A title and the tree."""
        with Vertical(classes="box"):
            yield Static(f"Choose a file ({', '.join(self._endings)}); esc for none", classes="dim line")
            yield _Files(self._folder, self._endings)

    def on_mount(self) -> None:
        """Begin in the tree."""
        self.query_one(_Files).focus()

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        """Taken."""
        self.dismiss(event.path)
