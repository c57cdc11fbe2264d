"""Text for terminals: remove control characters, shorten, "did you mean", durations, signed numbers, sparklines."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable, Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_BIDI = {chr(c) for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """Remove everything that a terminal could interpret: control characters and bidi marks.

    Model output reaches a screen only through this function. Tabs become spaces; so do newlines unless kept.
    """
    kept = []
    for char in text:
        if char == "\n" and keep_newlines:
            kept.append(char)
        elif char in "\n\t\r":
            kept.append(" ")
        elif char not in _BIDI and unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn"):
            kept.append(char)
    return "".join(kept)


def shorten(text: str, width: int) -> str:
    """Shorten ``text`` to one line of at most ``width`` characters, cutting its end."""
    line = _one_line(text)
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"[:width]


def abridge(text: str, width: int) -> str:
    """Shorten ``text`` to one line of at most ``width`` characters, cutting its middle: names of runs begin alike."""
    line, end = _one_line(text), width // 2
    return line if len(line) <= width else line[: max(0, width - 1 - end)] + "…"[:width] + line[len(line) - end :]


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to ``word``, or None if none is similar."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return close[0] if close else None


def suggest(word: str, choices: Iterable[str], otherwise: str) -> str:
    """Return a hint for a word that is not among ``choices``: the most similar one, or ``otherwise``."""
    nearest = did_you_mean(word, choices)
    return f"did you mean {nearest}?" if nearest else otherwise


def duration(seconds: float) -> str:
    """Format seconds: ``75`` -> ``1m15s``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{left:02}s" if minutes else f"{left}s"


def signed(value: float, decimals: int = 2) -> str:
    """Format a number with its sign and a real minus: advantages are read by their sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Draw the last ``width`` finite values as blocks, scaled from the lowest to the highest of them."""
    known = [value for value in values if math.isfinite(value)][-width:]
    low, high = min(known, default=0.0), max(known, default=0.0)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - low) / (high - low) * top) if high > low else 0] for value in known)
