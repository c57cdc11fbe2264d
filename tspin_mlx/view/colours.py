"""Colour palettes of curves, for light and dark backgrounds. Pure, and apart from the charts, which need NumPy."""

from __future__ import annotations

#: For screens: six colours that colour-blind people can distinguish (Okabe and Ito), lightened or darkened for their
#: background. The first two are always the current and the historical advantage.
ON_DARK = ("#56b4e9", "#e69f00", "#3fc19b", "#d98fc0", "#f0e442", "#f08a5d")
ON_LIGHT = ("#005a9c", "#9a3b00", "#00694a", "#8d3a73", "#6b6200", "#7a4a00")

#: For SVG, where curves also have different markers.
MANY_ON_DARK = (*ON_DARK[:2], "#3fb950", "#b083f9", "#f778ba", "#d8c84a", "#39c5cf", "#a5aeb8")
MANY_ON_LIGHT = (*ON_LIGHT[:2], "#1a7f37", "#7a3fd1", "#b3247f", "#6e5a00", "#00707d", "#57606a")
