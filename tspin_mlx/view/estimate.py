"""Estimate a plan's cost (steps, tokens, time, disk) from its data and an earlier run with the same model. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from ..recipe.phase import Outline
from .run_view import RunView

_CHARACTERS_PER_TOKEN = 4  # of English text, roughly; code and other languages have fewer


@dataclass(frozen=True)
class Speed:
    """The speed of an earlier run, in seconds per example.

    Attributes:
        run: its name.
        train_s: seconds per triplet, forward and backward.
        answer_s: seconds per answer, sampled or greedy.
        peak_bytes: its peak memory.
    """

    run: str
    train_s: float
    answer_s: float
    peak_bytes: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The cost of a plan.

    Attributes:
        steps: optimiser steps.
        answers: answers to generate.
        train_tokens: approximate number of tokens processed in training.
        seconds: duration; None without an earlier run with the same model.
    """

    steps: int
    answers: int
    train_tokens: int
    seconds: float | None


def speed_of(view: RunView, plan: Outline) -> Speed | None:
    """Compute the speed of a run; None if it has not trained and generated yet."""
    sizes = {phase.target: phase.train.batch_size for phase in plan.train_phases}
    trained = [step["elapsed_s"] / sizes[step["phase"]] for step in view.steps if step["phase"] in sizes]
    answered = [
        view.durations[phase.target] / count
        for phase in plan.phases
        if phase.target in view.durations and (count := plan.answers(phase))
    ]
    if not trained or not answered:
        return None
    peaks = [step["memory/peak_bytes"] for step in view.steps if "memory/peak_bytes" in step]
    return Speed(view.name, fmean(trained), fmean(answered), max(peaks, default=None))


def estimate(plan: Outline, characters: tuple[float, float] | None, speed: Speed | None) -> Estimate:
    """Estimate the cost of a plan.

    Args:
        characters: mean length of the prompts and of the expert's answers; None if the data was not read.
        speed: of an earlier run.
    """
    prompt, answer = (length / _CHARACTERS_PER_TOKEN for length in characters or (0, 0))
    answers = sum(map(plan.answers, plan.phases))
    examples = tokens = 0
    for phase in plan.train_phases:
        count = phase.train.steps * phase.train.batch_size
        examples += count
        tokens += round(count * (1 + phase.own_responses) * (prompt + answer))
    seconds = None if speed is None else examples * speed.train_s + answers * speed.answer_s
    return Estimate(plan.steps, answers, tokens, seconds)


def disk_bytes(iterations: int, adapter_bytes: int) -> int:
    """Estimate a run's disk space in bytes: an adapter per policy, checkpoints with two moments, and text."""
    return adapter_bytes * (2 + iterations + 9) + (16 << 20)
