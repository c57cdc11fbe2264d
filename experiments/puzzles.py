"""Short puzzles of reasoning-gym (Apache-2.0), small enough for a model of 135M parameters to learn in part."""

from __future__ import annotations

from typing import Any

from tspin_mlx.base.errors import SetupError

#: Arguments of ``reasoning_gym.create_dataset``: its own defaults have longer lists and numbers with decimals.
SETTINGS: dict[str, dict[str, Any]] = {
    "number_filtering": {"min_numbers": 3, "max_numbers": 5, "max_decimals": 0, "min_value": 0, "max_value": 99},
    "word_sequence_reversal": {"min_words": 3, "max_words": 5},
}

#: Item i of a dataset is made of its seed + i: between the seeds of two splits there is room for so many items.
_APART = 10_000_000

SYSTEM = "Reply with the answer only."


def examples(name: str, train: int, validation: int, test: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """So many examples of each split, each from generator seeds of its own.

    Raises:
        SetupError: reasoning-gym is not installed.
    """
    try:
        import reasoning_gym
    except ImportError:
        raise SetupError(f"{name} needs reasoning-gym", hint="pip install reasoning-gym==0.1.25") from None
    known: set[str] = set()
    found = {}
    for number, (split, count) in enumerate((("test", test), ("validation", validation), ("train", train))):
        start = (3 * seed + number) * _APART
        items = reasoning_gym.create_dataset(name, seed=start, size=_APART, **SETTINGS[name])
        found[split] = _distinct(items, count, known)
    return {split: found[split] for split in ("train", "validation", "test")}


def _distinct(items: Any, count: int, known: set[str]) -> list[dict[str, str]]:
    """The first ``count`` items whose prompts are not known yet; they are from now on."""
    rows: list[dict[str, str]] = []
    for item in items:
        if len(rows) == count:
            break
        prompt = " ".join(item["question"].split())
        if prompt not in known:
            known.add(prompt)
            rows.append({"system": SYSTEM, "prompt": prompt, "response": item["answer"], "answer": item["answer"]})
    return rows
