"""Screenshots: the screen as a self-contained SVG, for documents."""

from __future__ import annotations

import re
from typing import Any

from textual.app import App

_FONTS = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", FreeMono, monospace'


def screenshot(app: App[Any], title: str = "tspin-mlx") -> str:
    """Return a screenshot as SVG.

    Textual's own SVG downloads a font, and some viewers drop its leading spaces.
    """
    svg = app.export_screenshot(title=title, simplify=True)
    svg = re.sub(r"@font-face\s*{[^}]*}\s*", "", svg)
    svg = re.sub(r"font-family: Fira Code[^;]*;", f"font-family: {_FONTS};", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg)
    svg = svg.replace('<svg class="rich-terminal"', '<svg xml:space="preserve" class="rich-terminal"')
    return re.sub(r"terminal-\d+", "screen", svg).replace("&#160;", " ")
