"""What a phase minimises, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """What is minimised; the recipe's section ``objective`` for one phase.

    Attributes:
        alpha: inside both logistic terms, above 0.
        beta: weight of the historical term, at least 0.
        nll_weight: weight of the expert's mean negative log-likelihood per token, at least 0.
        entropy_weight: weight of the mean token entropy, which is rewarded, at least 0.
        reference: count log-probabilities in the contrast from those of the policy at the start of the iteration.
        contrast_tokens: of a sampled response, tokens that count from its first difference with y on; None is all.
    """

    alpha: float = 1.0
    beta: float = 0.0
    nll_weight: float = 0.0
    entropy_weight: float = 0.0
    reference: bool = False
    contrast_tokens: int | None = None


#: The warm-up's objective: with the expert's answers alone there is no contrast.
SUPERVISED = Objective(nll_weight=1.0)
