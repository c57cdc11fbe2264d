"""What the panes of a run have in common."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container
from textual.message import Message

from tspin_mlx.runs.run import Run

from ..state.status import Now
from ..widgets.paging import PAGE_KEYS, scroll_pages


class Pane(Container):
    """A part of the run's screen.

    Args:
        run: whose.
    """

    DEFAULT_CSS = "Pane { width: 1fr; height: 1fr; }"
    HELP = ""
    BINDINGS: ClassVar[list[BindingType]] = [*PAGE_KEYS]

    can_focus = True

    class RedrawRequested(Message):
        """Asks the screen to show the current status again."""

    def __init__(self, run: Run, *, id: str) -> None:
        super().__init__(id=id)
        self.run = run

    def show(self, now: Now) -> None:
        """Show a moment of the run; called only while the pane is seen."""
        raise NotImplementedError

    def recolour(self) -> None:
        """The colours have changed: what is kept in the old ones is out of date."""

    def action_page(self, by: int) -> None:
        """Scroll what is longer than the screen."""
        scroll_pages(self, by)

    def take_focus(self) -> None:
        """Come to the front."""
        self.focus()
