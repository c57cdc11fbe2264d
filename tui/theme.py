"""Colour themes, dark and light, and the chart colours of each, reduced to what the terminal supports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.style import Style
from textual.app import App
from textual.theme import Theme

from tspin_mlx.view.colours import ON_DARK, ON_LIGHT

if TYPE_CHECKING:
    from tspin_mlx.view.chart import Ink

DARK = Theme(
    name="tspin-dark",
    primary=ON_DARK[0],
    accent=ON_DARK[0],
    secondary=ON_DARK[1],
    warning="#e8b339",
    error="#ff7b72",
    success="#6cc685",
    foreground="#d5dbe3",
    background="#12161c",
    surface="#171c24",
    panel="#1d232d",
    dark=True,
    variables={"block-cursor-text-style": "none"},
)
LIGHT = Theme(
    name="tspin-light",
    primary=ON_LIGHT[0],
    accent=ON_LIGHT[0],
    secondary=ON_LIGHT[1],
    warning="#8a5a00",
    error="#b3261e",
    success="#1a6b34",
    foreground="#1f2328",
    background="#ffffff",
    surface="#f4f6f8",
    panel="#eaeef2",
    dark=False,
    variables={"block-cursor-text-style": "none"},
)


@dataclass(frozen=True)
class Palette:
    """The colours of a chart.

    Attributes:
        plain, dim, mark, zero: of the text, the iteration marks and the zero line.
        lines: of the series, in their order.
        bands: of the first band, of the second, and of their overlap; empty if bands cannot be shown.
    """

    plain: str
    dim: str
    mark: str
    zero: str
    lines: tuple[str, ...]
    bands: tuple[str, ...]

    def style(self, ink: Ink) -> Style:
        """Return the Rich style for the colours of a chart's cells."""
        background = self._colour(ink.background) if ink.background else None
        return Style(color=self._colour(ink.foreground), bgcolor=background)

    def _colour(self, name: str) -> str:
        if name.startswith("line"):
            return self.lines[int(name[4:]) % len(self.lines)]
        if name.startswith("band"):
            return self.bands[("band0", "band1", "bands").index(name)]
        return str(getattr(self, name))


_DARK_BANDS = ("#172b3c", "#33280f", "#2b322b")
_LIGHT_BANDS = ("#dcebf6", "#f8e6dc", "#e6e2e1")
_DARK = Palette("#d5dbe3", "#8b949e", "#4a525d", "#7d8590", ON_DARK, _DARK_BANDS)
_LIGHT = Palette("#1f2328", "#59636e", "#aab4be", "#6e7781", ON_LIGHT, _LIGHT_BANDS)
_DARK_GREYS = ("#303030", "#262626", "#3a3a3a")
_LIGHT_GREYS = ("#dadada", "#e4e4e4", "#d0d0d0")


def palette(app: App[Any]) -> Palette:
    """Return the chart colours for the theme and the terminal; with 256 colours bands are grey, with fewer absent."""
    dark = app.current_theme.dark
    colours, greys = (_DARK, _DARK_GREYS) if dark else (_LIGHT, _LIGHT_GREYS)
    color_system = app.console.color_system
    if app.no_color or color_system in ("standard", "windows"):
        bands: tuple[str, ...] = ()
    else:
        bands = greys if color_system == "256" else colours.bands
    return replace(colours, bands=bands)


def theme_colours(app: App[Any]) -> dict[str, str]:
    """Return the colours of the current theme by name: ``dim``, ``rule``, ``accent``, ``success``, ``warning``,
    ``error``, ``line0`` and ``line1``."""
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
