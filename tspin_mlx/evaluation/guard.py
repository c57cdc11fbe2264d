"""What to warn of: the collapse guard, what a small model loses first when self-play goes wrong; and samples from which
there is nothing to learn. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..recipe.schema import GuardSection

_IDENTICAL = 0.8  # share of samples that equal the expert's answers
_SATURATED = -10.0  # inside the current term's logistic, where its slope is 1 to four digits


@dataclass(frozen=True)
class Health:
    """What is watched of one policy.

    Attributes:
        stop_rate: share of held-out greedy answers that end by themselves, in [0, 1].
        nll: of the held-out expert's answers, nats per token.
        truncated: share of sampled answers to the training prompts that were cut at the longest length, in [0, 1];
            0 where none are sampled.
    """

    stop_rate: float
    nll: float
    truncated: float = 0.0


def signs_of_collapse(initial: Health, now: Health, section: GuardSection) -> list[str]:
    """What has become worse than the recipe allows, in words; empty if all is well.

    Args:
        initial: the policy at the start of self-play.
        now: the policy after an iteration; its samples are those that the iteration was trained on.
    """
    signs = []
    if initial.stop_rate - now.stop_rate > section.stop_rate_drop:
        signs.append(f"{now.stop_rate:.0%} of the held-out answers end by themselves, {initial.stop_rate:.0%} at first")
    # Written so that a likelihood that is not a number is a sign.
    if not now.nll - initial.nll <= section.nll_rise:
        signs.append(f"the expert's answers have NLL {now.nll:.2f} per token, {initial.nll:.2f} at first")
    if now.truncated - initial.truncated > section.truncated_rise:
        signs.append(f"{now.truncated:.0%} of the sampled answers were cut off, {initial.truncated:.0%} at first")
    return signs


def nothing_left(identical: float, prompts: int) -> str | None:
    """What to say of an iteration whose samples are nearly all the expert's answers.

    Args:
        identical: their share, in [0, 1].
        prompts: how many were answered.
    """
    if identical <= _IDENTICAL:
        return None
    return (
        f"{identical:.1%} of the sampled answers are the expert's own: the contrast has only "
        f"{round((1 - identical) * prompts)} of {prompts} to learn from"
    )


def saturated(metrics: Mapping[str, float]) -> str | None:
    """What to say where the model finds all of the expert's answers far less likely than its own.

    Args:
        metrics: of the first step of self-play, see :func:`tspin_mlx.method.step_metrics.step_metrics`.
    """
    margin = metrics.get("rewards/margins", 0.0)
    if margin >= _SATURATED:
        return None
    return (
        "the expert's answers are so much less likely than the model's own (alpha times the current advantage is "
        f"{margin:.0f} on average) that the logistic tells no triplet from another: warm up first (warmup.epochs), or "
        "take a smaller objective.alpha"
    )
