"""File picker: a modal tree of the files of some types."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DirectoryTree, Static

from ..keys import binding


class _Files(DirectoryTree):
    """The tree of folders and of files with some suffixes."""

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        super().__init__(folder)
        self._suffixes = suffixes

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """Keep folders and matching files that are not hidden."""
        visible = [path for path in paths if not path.name.startswith(".")]
        return [path for path in visible if path.is_dir() or path.suffix in self._suffixes]


class FilePicker(ModalScreen[Path | None]):
    """Returns the chosen file, or None.

    Args:
        folder: the root of the tree.
        suffixes: of the files to show, such as ``.jsonl``.
    """

    BINDINGS: ClassVar[list[BindingType]] = [binding("back", "dismiss", "cancel")]

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        super().__init__()
        self._folder, self._suffixes = folder, suffixes

    def compose(self) -> ComposeResult:
        """Yield a title and the tree."""
        with Vertical(classes="box"):
            yield Static(f"Choose a file ({', '.join(self._suffixes)}); esc cancels", classes="dim line")
            yield _Files(self._folder, self._suffixes)

    def on_mount(self) -> None:
        """Focus the tree."""
        self.query_one(_Files).focus()

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        """Close the dialog with the selected file."""
        self.dismiss(event.path)
