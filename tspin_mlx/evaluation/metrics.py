"""Task metrics: how good one greedy answer is, between 0 and 1. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

#: Held-out measures under the short names that stand over columns.
HEADINGS = {
    "nll": "NLL", "stop_rate": "stops", "exact_match": "exact", "json_valid": "valid", "json_exact": "equal",
    "json_field_f1": "F1", "advantage_current": "current", "advantage_historical": "historical",
}  # fmt: skip

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def exact_match(output: str, answer: str) -> float:
    """1 if the texts are equal but for space around them."""
    return float(output.strip() == answer.strip())


def json_valid(output: str, answer: str) -> float:
    """1 if the output is one JSON object or list and nothing else."""
    return float(isinstance(_parsed(output), dict | list))


def json_exact(output: str, answer: str) -> float:
    """1 if both are JSON with the same content; the order of keys does not matter, 1 and 1.0 are equal."""
    found = _parsed(output)
    return float(isinstance(found, dict | list) and _canonical(found) == _canonical(_parsed(answer)))


def json_field_f1(output: str, answer: str) -> float:
    """F1 over (path, value) pairs of the two JSON documents; 0 if the output is not JSON."""
    found, wanted = _parsed(output), _parsed(answer)
    if not isinstance(found, dict | list):
        return 0.0
    ours, theirs = set(_fields(found)), set(_fields(wanted))
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))


def numeric(output: str, answer: str) -> float:
    """1 if the last number of the output is the last number of the answer, as in GSM8K."""
    ours, theirs = _last_number(output), _last_number(answer)
    return float(ours is not None and ours == theirs)


def metric(name: str, pattern: str | None) -> Callable[[str, str], float]:
    """The function of a recipe's metric name; ``pattern`` is for ``regex``."""
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
    """The JSON document in ``text``; None if it is not one, or nested so deep that nobody can have meant it."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        _fields(value)
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _canonical(value: Any) -> str:
    """Equal for equal content; unlike Python's ``==`` it tells 1 from true."""
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
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
