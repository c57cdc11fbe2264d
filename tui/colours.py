"""The theme's colours under the words that the texts use."""

from __future__ import annotations

from typing import Any

from textual.app import App

from .look import palette


def words_of(app: App[Any]) -> dict[str, str]:
    """``dim``, ``rule``, ``accent``, ``success``, ``warning`` and ``error`` as colours of the present theme."""
    theme, chart = app.current_theme, palette(app)
    return {
        "dim": chart.dim,
        "rule": chart.mark,
        "accent": theme.primary,
        "success": theme.success or "",
        "warning": theme.warning or "",
        "error": theme.error or "",
        "line0": chart.lines[0],
        "line1": chart.lines[1],
    }
