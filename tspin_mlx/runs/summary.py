"""Summarise a run for a list: state, progress, model, best policy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..base.errors import DamagedError
from .run import Run
from .state import state_of


def summary(path: Path) -> dict[str, Any]:
    """Return ``name``, ``state``, ``done``, ``phases``, ``model``, ``warm`` (it has a warm-up), and the ``best`` policy
    with its ``metric`` and ``value``.

    The state of an unreadable run is ``damaged``, and ``message`` says why.
    """
    nothing = dict.fromkeys(("best", "metric", "value"))
    try:
        run = Run(path)
        result = run.result() or nothing
        pending = run.pending()
    except DamagedError as error:
        return {"name": path.name, "state": "damaged", "message": error.message, "done": 0, "phases": 0, "model": "–",
                "warm": False, **nothing}  # fmt: skip
    phases = len(run.outline.phases)
    return {
        "name": run.name,
        "state": state_of(run, time.time()),
        "done": phases - len(pending),
        "phases": phases,
        "model": run.about["model"]["name"],
        "warm": run.warm,
        **{name: result[name] for name in nothing},
    }
