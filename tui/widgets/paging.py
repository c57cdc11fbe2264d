"""Scrolling by pages: key bindings for parts of a screen that the cursor keys do not scroll."""

from __future__ import annotations

from textual.containers import VerticalScroll
from textual.dom import DOMNode

from ..keys import binding

#: For a screen or pane with an ``action_page``.
PAGE_BINDINGS = [
    binding("page-up", "page(-1)", "page up", show=False, tooltip="Scroll up a page"),
    binding("page-down", "page(1)", "page down", show=False, tooltip="Scroll down a page"),
]


def scroll_pages(node: DOMNode, pages: int) -> None:
    """Scroll every scrollable part of a screen or pane by some pages."""
    for part in node.query(VerticalScroll):
        part.scroll_relative(y=pages * part.scrollable_content_region.height, animate=False, immediate=True)
        if part.is_anchored and part.is_vertical_scroll_end:  # Textual drops the anchor even if nothing moved
            part.anchor()
