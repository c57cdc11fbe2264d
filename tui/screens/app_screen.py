"""What the screens that fill the terminal have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.screen import Screen

if TYPE_CHECKING:
    from ..app import TspinApp


class AppScreen(Screen[None]):
    """A screen that knows its app."""

    @property
    def tspin(self) -> TspinApp:
        """The app."""
        return cast("TspinApp", self.app)
