"""Base class of the panes of the run screen."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container
from textual.message import Message

from tspin_mlx.runs.run import Run

from ..state.status import RunStatus
from ..widgets.paging import PAGE_BINDINGS, scroll_pages


class Pane(Container):
    """One of the panes; only the visible one is updated.

    Args:
        run: the run it shows.
    """

    DEFAULT_CSS = "Pane { width: 1fr; height: 1fr; }"
    HELP = ""
    BINDINGS: ClassVar[list[BindingType]] = [*PAGE_BINDINGS]

    can_focus = True

    class RedrawRequested(Message):
        """Asks the screen to call :meth:`show` again."""

    def __init__(self, run: Run, *, id: str) -> None:
        super().__init__(id=id)
        self.run = run

    def show(self, status: RunStatus) -> None:
        """Show a run status; called only while the pane is visible."""
        raise NotImplementedError

    def recolour(self) -> None:
        """Drop what is cached in the colours of the old theme."""

    def action_page(self, pages: int) -> None:
        """Scroll by some pages."""
        scroll_pages(self, pages)

    def take_focus(self) -> None:
        """Focus the part of the pane that the keys should go to."""
        self.focus()
