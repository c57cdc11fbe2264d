"""The advantage plot of a run: current and historical advantage over the steps of self-play. Pure."""

from __future__ import annotations

import numpy as np

from ..run_view import RunView
from .plot import Mark, Plot, Series

CURRENT, HISTORICAL = "current", "historical"


def advantage_plot(view: RunView, window: int | None = None) -> Plot:
    """Return both advantages over all self-play steps, in nats, with the minimum and maximum of each batch as bands.

    Supervised steps have no advantages. The plot then shows the NLL of the expert's answers: over the warm-up until
    self-play begins, and over self-play iterations that are supervised.

    Args:
        window: smoothing window in steps; None takes a fraction of the run.
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
