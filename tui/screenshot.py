"""The screen as one SVG file that needs nothing else, for documents."""

from __future__ import annotations

import re
from typing import Any

from textual.app import App

_FONTS = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", FreeMono, monospace'


def picture(app: App[Any], title: str = "tspin-mlx") -> str:
    """What is on the screen.

    Textual's own picture fetches a font from elsewhere, and its leading spaces get lost in some viewers.
    """
    svg = app.export_screenshot(title=title, simplify=True)
    svg = re.sub(r"@font-face\s*{[^}]*}\s*", "", svg)
    svg = re.sub(r"font-family: Fira Code[^;]*;", f"font-family: {_FONTS};", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg)
    svg = svg.replace('<svg class="rich-terminal"', '<svg xml:space="preserve" class="rich-terminal"')
    return re.sub(r"terminal-\d+", "screen", svg).replace("&#160;", " ")
