"""The keys that scroll what the cursor keys do not reach."""

from __future__ import annotations

from textual.containers import VerticalScroll
from textual.dom import DOMNode

from ..keys import bound

#: For those who have an ``action_page``.
PAGE_KEYS = [
    bound("page-up", "page(-1)", "page up", show=False, tooltip="Scroll back"),
    bound("page-down", "page(1)", "page down", show=False, tooltip="Scroll on"),
]


def scroll_pages(node: DOMNode, by: int) -> None:
    """Scroll all parts of a pane or a screen that are longer than what is seen of them."""
    for part in node.query(VerticalScroll):
        part.scroll_relative(y=by * part.scrollable_content_region.height, animate=False, immediate=True)
        if part.is_anchored and part.is_vertical_scroll_end:  # Textual lets go of it even where nothing moves
            part.anchor()
