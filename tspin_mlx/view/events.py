"""What the engine says while it works: one flat JSON object per event, for people, screens and tools.

Events never decide what is done next; the names of finished files do.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import from_json

#: One event: ``time`` (seconds since 1970), ``kind``, and the fields of its kind.
Event = dict[str, Any]

#: How the engine speaks: the kind, and its fields.
Emit = Callable[..., None]

_NUMBER = (int, float)
_NUMBER_OR_NONE = (int, float, type(None))

#: The fields that every event of a kind has, and their types. Metrics of ``step`` (all of them numbers),
#: ``generate/*`` and ``eval/*`` come beside them.
FIELDS: dict[str, dict[str, Any]] = {
    "run_started": {"name": str, "phases": int, "phases_done": int, "steps": int, "counts": dict},
    "machine": {"device": str, "memory_bytes": int},  # where MLX computes, and the memory of the whole machine
    "phase_started": {"phase": str, "title": str, "iteration": (int, type(None))},
    "resumed": {"phase": str, "done": int, "total": int},  # within a phase, from what was kept of it
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
    "stopping": {"after": str},  # "step" or "iteration": somebody asked for it
    "restarted": {"reason": str, "micro_batch_size": int, "generation_batch_size": int},
    "chosen": {"policy": str, "metric": str, "value": _NUMBER},
    "run_finished": {"elapsed_s": _NUMBER},
    "run_stopped": {"message": str, "exit_code": int},
    "run_failed": {"message": str, "hint": (str, type(None)), "exit_code": int},
}  # fmt: skip

_NUMBERS = ("advantage/", "eval/", "generate/", "memory/")
_STEP_NAMES = {"time", *FIELDS["step"]}

#: Kinds after which nothing comes until the run is started again.
LAST = ("run_finished", "run_stopped", "run_failed")


def parse_event(line: bytes) -> Event | None:
    """An event from its line in the log; None if it is not one, as after a damage to the file."""
    return next(iter(parse_events(line)), None)


def parse_events(lines: bytes) -> list[Event]:
    """The events of some whole lines of the log; what is not one is left out."""
    found: list[Event] = []
    names: list[str] | None = None
    types: list[type] = []
    for row in _rows(lines):
        if not isinstance(row, dict):
            continue
        if list(row) == names and list(map(type, row.values())) == types and row["kind"] == "step":
            found.append(row)  # as the one before: most are
        elif _is_plain_step(row):
            names, types = list(row), list(map(type, row.values()))
            found.append(row)
        elif _is_event(row):
            found.append(row)
    return found


def _rows(lines: bytes) -> Iterator[Any]:
    """Each line's JSON, where it is any. Rows share their names: pydantic's parser keeps short strings."""
    for line in lines.split(b"\n"):
        try:
            yield from_json(line)
        except ValueError:  # damaged; or half of a surrogate pair, as from a file's name, which only json takes
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
    """Whether an event is a step with nothing but numbers in it: most lines of a log are, and this is quick to see."""
    types = list(map(type, event.values()))
    return (
        event.get("kind") == "step"
        and event.keys() >= _STEP_NAMES
        and type(event["phase"]) is str
        and type(event["step"]) is type(event["steps"]) is int
        and types.count(str) == 2  # the kind and the phase
        and types.count(int) + types.count(float) == len(types) - 2 - (event["iteration"] is None)
    )
