"""What a plan will cost, as far as the data and an earlier run with the same model can tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..method.objective import own_responses
from .run_view import RunView

_CHARACTERS_PER_TOKEN = 4  # of English text, roughly; code and other languages have fewer


@dataclass(frozen=True)
class Speed:
    """What an earlier run took. Seconds are per example.

    Attributes:
        run: its name.
        train_s: of a triplet, forward and backward.
        answer_s: of one answer, sampled or greedy.
        peak_bytes: the most memory it held.
    """

    run: str
    train_s: float
    answer_s: float
    peak_bytes: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The cost of a plan.

    Attributes:
        steps: of the optimiser.
        answers: that are generated.
        train_tokens: that go through the model while training, roughly.
        seconds: None without an earlier run with the same model.
    """

    steps: int
    answers: int
    train_tokens: int
    seconds: float | None


def speed_of(view: RunView, plan: Mapping[str, Any]) -> Speed | None:
    """What a run took; None if it has not trained and answered yet.

    Args:
        plan: its ``plan.json``.
    """
    sizes = {row["target"]: row["updates"]["batch_size"] for row in plan["phases"] if row["updates"]}
    trained = [step["elapsed_s"] / sizes[step["phase"]] for step in view.steps if step["phase"] in sizes]
    answered = [
        view.durations[row["target"]] / count
        for row in plan["phases"]
        if row["target"] in view.durations and (count := _answers(row, plan))
    ]
    if not trained or not answered:
        return None
    peaks = [step["memory/peak_bytes"] for step in view.steps if "memory/peak_bytes" in step]
    return Speed(view.name, fmean(trained), fmean(answered), max(peaks, default=None))


def estimate(plan: Mapping[str, Any], characters: tuple[float, float] | None, speed: Speed | None) -> Estimate:
    """The cost of a plan.

    Args:
        plan: as ``plan.json`` has it.
        characters: mean length of the prompts and of the expert's answers; None if the data was not seen.
        speed: of an earlier run.
    """
    prompt, answer = (length / _CHARACTERS_PER_TOKEN for length in characters or (0, 0))
    steps = answers = examples = tokens = 0
    for row in plan["phases"]:
        answers += _answers(row, plan)
        if (updates := row["updates"]) is None:
            continue
        steps += updates["steps"]
        examples += updates["steps"] * updates["batch_size"]
        responses = 1 + own_responses(row["kind"], row["objective"]["beta"])
        tokens += round(updates["steps"] * updates["batch_size"] * responses * (prompt + answer))
    seconds = None if speed is None else examples * speed.train_s + answers * speed.answer_s
    return Estimate(steps, answers, tokens, seconds)


def disk_bytes(iterations: int, adapter_bytes: int) -> int:
    """What a run may need on the disk: an adapter per policy, checkpoints with the optimiser's two moments, and as much
    again of text."""
    return adapter_bytes * (2 + iterations + 9) + (16 << 20)


def _answers(row: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """How many answers a phase generates."""
    counts = plan["counts"]
    if row["kind"] == "generate":
        return int(min(counts["train"], plan["recipe"]["generation"]["prompts"] or counts["train"]))
    if row["kind"] == "evaluate":
        return int(counts["validation"])
    return int(counts["test"]) if row["kind"] in ("test", "test_best") else 0
