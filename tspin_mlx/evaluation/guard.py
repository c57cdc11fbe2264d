"""The collapse guard: warn about stop rate, NLL and truncation, a saturated loss, and identical samples. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..recipe.schema import GuardSection

_IDENTICAL = 0.8  # share of samples that equal the expert's answers
_SATURATED = -10.0  # argument of the current term's logistic loss, whose slope there is 1 to four digits


@dataclass(frozen=True)
class Health:
    """The measures of one policy that the guard compares.

    Attributes:
        stop_rate: share of held-out greedy answers that end by themselves, in [0, 1].
        nll: of the expert's held-out answers, in nats per token.
        truncated: share of sampled answers to training prompts that were cut off at the maximum length, in [0, 1]; 0
            without samples.
    """

    stop_rate: float
    nll: float
    truncated: float = 0.0


def signs_of_collapse(initial: Health, now: Health, section: GuardSection) -> list[str]:
    """List what has become worse than the recipe allows, in words; empty if nothing has.

    Args:
        initial: the policy at the start of self-play.
        now: the policy after an iteration; its samples are those that the iteration was trained on.
    """
    signs = []
    if initial.stop_rate - now.stop_rate > section.stop_rate_drop:
        signs.append(
            f"{now.stop_rate:.0%} of held-out answers end by themselves, {initial.stop_rate:.0%} before self-play"
        )
    # `not <=`, so that NaN is a sign too.
    if not now.nll - initial.nll <= section.nll_rise:
        signs.append(f"the expert's answers have NLL {now.nll:.2f} per token, {initial.nll:.2f} before self-play")
    if now.truncated - initial.truncated > section.truncated_rise:
        signs.append(f"{now.truncated:.0%} of sampled answers were cut off, {initial.truncated:.0%} before self-play")
    return signs


def nothing_left(identical: float, prompts: int) -> str | None:
    """Return a warning if nearly all samples of an iteration are the expert's answers.

    Args:
        identical: share of such samples, in [0, 1].
        prompts: number of prompts answered.
    """
    if identical <= _IDENTICAL:
        return None
    return (
        f"{identical:.1%} of the sampled answers are the expert's own: only {round((1 - identical) * prompts)} of "
        f"{prompts} triplets are left to learn from"
    )


def saturated(metrics: Mapping[str, float]) -> str | None:
    """Return a warning if the loss is saturated: the expert's answers are far less likely than the model's own.

    Args:
        metrics: of the first step of self-play, see :func:`tspin_mlx.method.step_metrics.step_metrics`.
    """
    margin = metrics.get("rewards/margins", 0.0)
    if margin >= _SATURATED:
        return None
    return (
        "the loss is saturated: the expert's answers are far less likely than the model's own (alpha times the current "
        f"advantage is {margin:.0f} on average), so all triplets count alike; warm up first (warmup.epochs), or reduce "
        "objective.alpha"
    )
