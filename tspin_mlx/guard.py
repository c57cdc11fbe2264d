"""The collapse guard: what a small model loses first when self-play goes wrong. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .recipe import GuardSection


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
