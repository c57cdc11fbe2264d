"""Progress callbacks for generation and scoring."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the number of examples done, the number of tokens done, and the seconds since the start.
OnProgress = Callable[[int, int, float], None]


def in_halves(report: OnProgress, count: int) -> tuple[OnProgress, OnProgress]:
    """Split one progress callback between answering and scoring the same examples.

    Args:
        report: called with up to ``count`` examples; one that is answered but not yet scored counts half.

    Returns:
        The callbacks for the answers and for the scores.
    """

    def on_answered(done: int, tokens: int, seconds: float) -> None:
        report(done // 2, tokens, seconds)

    def on_scored(done: int, tokens: int, seconds: float) -> None:
        report((count + done) // 2, tokens, seconds)

    return on_answered, on_scored
