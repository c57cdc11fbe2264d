"""What the engine says while it works: one flat JSON object per event, for people, screens and tools.

Events never decide what is done next; the names of finished files do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

EventKind = Literal[
    "run_started",  # name, phases, steps, counts
    "phase_started",  # phase, title, iteration
    "progress",  # phase, done, total, tokens_per_s: within generation and evaluation
    "step",  # phase, iteration, step, steps, and the metrics of the step
    "generated",  # phase, iteration, and generate/*
    "evaluated",  # policy, and eval/*
    "phase_finished",  # phase, elapsed_s
    "warning",  # message
    "chosen",  # policy, metric, value
    "run_finished",  # elapsed_s
    "run_failed",  # message
]

#: One event: ``time`` (seconds since 1970), ``kind``, and the fields of its kind.
Event = dict[str, Any]

#: How the engine speaks.
Emit = Callable[..., None]
