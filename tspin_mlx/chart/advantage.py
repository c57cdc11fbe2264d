"""The advantage chart of a run: current and historical, over the steps of self-play. Pure."""

from __future__ import annotations

from ..run_view import RunView
from .plot import Mark, Plot, Series

CURRENT, HISTORICAL = "current", "historical"


def advantage_plot(view: RunView, window: int | None = None) -> Plot:
    """Both advantages of all self-play steps, in nats, with the least and greatest of each batch as their bands.

    Args:
        window: steps over which the lines are smoothed; None takes a fraction of the run.
    """
    parts = view.self_play
    start = parts[0].start if parts else len(view.steps)

    def series(name: str) -> Series:
        columns = [view.steps.column(f"advantage/{name}{edge}")[start:] for edge in ("", "_min", "_max")]
        return Series(name, *columns)

    marks = tuple(Mark(part.start - start, f"iteration {part.iteration}") for part in parts)
    return Plot((series(CURRENT), series(HISTORICAL)), marks, unit="nats", window=window, zero=True)
