"""Text for people: printable, short, and with the right word suggested."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable, Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_BIDI = {chr(c) for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """``text`` with everything removed that a terminal could obey: control codes and bidi marks.

    Model output reaches a screen only through this function. Tabs become spaces; newlines too unless kept.
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
    """``text`` on one line of at most ``width`` characters."""
    line = _one_line(text)
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"[:width]


def abridge(text: str, width: int) -> str:
    """``text`` on one line of at most ``width`` characters: what is too long loses its middle, as names of runs that
    begin alike."""
    line, end = _one_line(text), width // 2
    return line if len(line) <= width else line[: max(0, width - 1 - end)] + "…"[:width] + line[len(line) - end :]


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def first_line(error: BaseException) -> str:
    """What an error says, in a line; its kind, if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """The nearest of ``choices``, or None if nothing is near."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return close[0] if close else None


def suggest(word: str, choices: Iterable[str], otherwise: str) -> str:
    """A hint for a word that is not among ``choices``: the nearest of them, or ``otherwise`` if nothing is near."""
    nearest = did_you_mean(word, choices)
    return f"did you mean {nearest}?" if nearest else otherwise


def duration(seconds: float) -> str:
    """``75`` -> ``1m15s``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{left:02}s" if minutes else f"{left}s"


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign, with a real minus: advantages are read by their sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """The last ``width`` values that are numbers as blocks, from the lowest to the highest of them."""
    known = [value for value in values if math.isfinite(value)][-width:]
    low, high = min(known, default=0.0), max(known, default=0.0)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - low) / (high - low) * top) if high > low else 0] for value in known)
