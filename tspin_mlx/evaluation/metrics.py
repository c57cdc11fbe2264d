"""Task metrics of one answer, in [0, 1]: exact match, JSON validity, JSON field F1, last number, regex. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

#: Short names of held-out measures, for column headings.
HEADINGS = {
    "nll": "NLL", "stop_rate": "stops", "exact_match": "exact", "json_valid": "valid", "json_exact": "equal",
    "json_field_f1": "F1", "advantage_current": "current", "advantage_historical": "historical",
}  # fmt: skip

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def exact_match(output: str, answer: str) -> float:
    """Return 1 if the texts are equal except for surrounding white space."""
    return float(output.strip() == answer.strip())


def json_valid(output: str, answer: str) -> float:
    """Return 1 if the output is one JSON object or list and nothing else."""
    return float(isinstance(_parsed(output), dict | list))


def json_exact(output: str, answer: str) -> float:
    """Return 1 if both are JSON with the same content; the order of keys does not matter, 1 and 1.0 are equal."""
    document = _parsed(output)
    return float(isinstance(document, dict | list) and _canonical(document) == _canonical(_parsed(answer)))


def json_field_f1(output: str, answer: str) -> float:
    """Compute F1 over the (path, value) pairs of two JSON documents; 0 if the output is not JSON."""
    document, reference = _parsed(output), _parsed(answer)
    if not isinstance(document, dict | list):
        return 0.0
    ours, theirs = set(_fields(document)), set(_fields(reference))
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))


def numeric(output: str, answer: str) -> float:
    """Return 1 if the last number of the output is the last number of the answer, as in GSM8K."""
    ours, theirs = _last_number(output), _last_number(answer)
    return float(ours is not None and ours == theirs)


def metric(name: str, pattern: str | None) -> Callable[[str, str], float]:
    """Return the metric function by its name in recipes; ``pattern`` is for ``regex``."""
    if name == "regex":
        compiled = re.compile(pattern or "")
        return lambda output, answer: float(compiled.search(output) is not None)
    return _METRICS[name]


_METRICS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "json_valid": json_valid,
    "json_exact": json_exact,
    "json_field_f1": json_field_f1,
    "numeric": numeric,
}


def _parsed(text: str) -> Any:
    """Parse ``text`` as JSON; None if it is invalid or nested too deeply."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        _fields(value)
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _canonical(value: Any) -> str:
    """Serialise so that equal content gives equal text; unlike Python's ``==``, 1 and true differ."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def _fields(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        return [field for key, inner in value.items() for field in _fields(inner, f"{path}/{json.dumps(key)}")]
    if isinstance(value, list) and value:
        return [field for i, inner in enumerate(value) for field in _fields(inner, f"{path}/{i}")]
    return [f"{path}={_canonical(value)}"]


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None
