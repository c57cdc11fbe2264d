"""The advantage chart of a run: current and historical, over the steps of self-play. Pure."""

from __future__ import annotations

import numpy as np

from ..run_view import RunView
from .plot import Mark, Plot, Series

CURRENT, HISTORICAL = "current", "historical"


def advantage_plot(view: RunView, window: int | None = None) -> Plot:
    """Both advantages of all self-play steps, in nats, with the least and greatest of each batch as their bands.

    Supervised iterations and the warm-up have none: of them, the warm-up only until self-play begins, it is the NLL of
    the expert's answers.

    Args:
        window: steps over which the lines are smoothed; None takes a fraction of the run.
    """
    parts = view.self_play
    start = parts[0].start if parts else 0

    def series(name: str) -> Series:
        columns = [view.steps.column(f"advantage/{name}{edge}")[start:] for edge in ("", "_min", "_max")]
        return Series(name, *columns)

    marks = tuple(Mark(part.start - start, f"iteration {part.iteration}") for part in parts)
    current = series(CURRENT)
    if len(current.values) and np.isnan(current.values).all():
        name = "NLL of the expert's answers" if parts else "warm-up: NLL of the expert's answers"
        nll = Series(name, view.steps.column("nll")[start:])
        return Plot((nll,), marks, unit="nats per token", window=window)
    return Plot((current, series(HISTORICAL)), marks, unit="nats", window=window, zero=True)
