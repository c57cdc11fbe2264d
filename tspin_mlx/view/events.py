"""Events of a run: one flat JSON object each, with the fields of its kind, for logs, screens and tools.

Events never decide what is done next; finished files do.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import from_json

#: One event: ``time`` (seconds since 1970), ``kind``, and the fields of its kind.
Event = dict[str, Any]

#: Emits an event: takes its kind, and its fields as keywords.
Emit = Callable[..., None]

_NUMBER = (int, float)
_NUMBER_OR_NONE = (int, float, type(None))

#: The required fields of each kind of event, with their types. Metrics come on top: those of ``step`` (all numbers),
#: ``generate/*`` and ``eval/*``.
FIELDS: dict[str, dict[str, Any]] = {
    "run_started": {"name": str, "phases": int, "phases_done": int, "steps": int, "counts": dict},
    "machine": {"device": str, "memory_bytes": int},  # MLX's device, and the total memory of the machine
    "phase_started": {"phase": str, "title": str, "iteration": (int, type(None))},
    "resumed": {"phase": str, "done": int, "total": int},  # within a phase, from a checkpoint or shards
    "progress": {"phase": str, "done": int, "total": int, "tokens_per_s": _NUMBER_OR_NONE},
    "step": {
        "phase": str, "iteration": (int, type(None)), "step": int, "steps": int, "loss": _NUMBER,
        "tokens_per_s": _NUMBER, "elapsed_s": _NUMBER,
    },
    "generated": {
        "phase": str, "iteration": (int, type(None)), "generate/stop_rate": _NUMBER, "generate/identical": _NUMBER,
        "generate/tokens_per_s": _NUMBER,
    },
    "evaluated": {"policy": str},
    "phase_finished": {"phase": str, "elapsed_s": _NUMBER},
    "warning": {"message": str},
    "stopping": {"after": str},  # "step" or "iteration": a stop was requested
    "restarted": {"reason": str, "micro_batch_size": int, "generation_batch_size": int},
    "chosen": {"policy": str, "metric": str, "value": _NUMBER},
    "run_finished": {"elapsed_s": _NUMBER},
    "run_stopped": {"message": str, "exit_code": int},
    "run_failed": {"message": str, "hint": (str, type(None)), "exit_code": int},
}  # fmt: skip

_NUMBERS = ("advantage/", "eval/", "generate/", "memory/")
_STEP_NAMES = {"time", *FIELDS["step"]}

#: Kinds of the last event, until the run is started again.
LAST = ("run_finished", "run_stopped", "run_failed")


def parse_event(line: bytes) -> Event | None:
    """Parse a line of the log; None if it is not an event, as in a damaged file."""
    return next(iter(parse_events(line)), None)


def parse_events(lines: bytes) -> list[Event]:
    """Parse complete lines of the log; lines that are not events are skipped."""
    events: list[Event] = []
    names: list[str] | None = None
    types: list[type] = []
    for row in _rows(lines):
        if not isinstance(row, dict):
            continue
        if list(row) == names and list(map(type, row.values())) == types and row["kind"] == "step":
            events.append(row)  # same fields as the row before: most lines are
        elif _is_plain_step(row):
            names, types = list(row), list(map(type, row.values()))
            events.append(row)
        elif _is_event(row):
            events.append(row)
    return events


def _rows(lines: bytes) -> Iterator[Any]:
    """Yield each line's JSON, skipping invalid lines. Rows share their keys: pydantic's parser caches short strings."""
    for line in lines.split(b"\n"):
        try:
            yield from_json(line)
        except ValueError:  # damaged; or an unpaired surrogate, as from a file name, which only json accepts
            with contextlib.suppress(ValueError, RecursionError):
                yield json.loads(line)


def _is_event(row: dict[str, Any]) -> bool:
    try:
        fields = {"time": _NUMBER, **FIELDS[row["kind"]]}
    except (KeyError, TypeError):
        return False
    right = all(isinstance(row.get(name, ...), types) for name, types in fields.items())
    return right and all(isinstance(row[name], _NUMBER) for name in row if name.startswith(_NUMBERS))


def _is_plain_step(event: Event) -> bool:
    """Return whether an event is a step with numbers only: a fast check, as most lines of a log are."""
    types = list(map(type, event.values()))
    return (
        event.get("kind") == "step"
        and event.keys() >= _STEP_NAMES
        and type(event["phase"]) is str
        and type(event["step"]) is type(event["steps"]) is int
        and types.count(str) == 2  # the kind and the phase
        and types.count(int) + types.count(float) == len(types) - 2 - (event["iteration"] is None)
    )
