"""The advantage chart of a run: current and historical, over the steps of self-play. Pure."""

from __future__ import annotations

import numpy as np

from ..run_view import RunView
from .plot import Mark, Plot, Series

CURRENT, HISTORICAL = "current", "historical"


def advantage_plot(view: RunView, window: int | None = None) -> Plot:
    """Both advantages of all self-play steps, in nats, with the least and greatest of each batch as their bands.

    Supervised iterations have none: of them it is the NLL of the expert's answers.

    Args:
        window: steps over which the lines are smoothed; None takes a fraction of the run.
    """
    parts = view.self_play
    start = parts[0].start if parts else len(view.steps)

    def series(name: str) -> Series:
        columns = [view.steps.column(f"advantage/{name}{edge}")[start:] for edge in ("", "_min", "_max")]
        return Series(name, *columns)

    marks = tuple(Mark(part.start - start, f"iteration {part.iteration}") for part in parts)
    current = series(CURRENT)
    if len(current.values) and np.isnan(current.values).all():
        nll = Series("NLL of the expert's answers", view.steps.column("nll")[start:])
        return Plot((nll,), marks, unit="nats per token", window=window)
    return Plot((current, series(HISTORICAL)), marks, unit="nats", window=window, zero=True)
