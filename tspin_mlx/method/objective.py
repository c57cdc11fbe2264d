"""The training objective of one phase: weights of its loss terms, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """The weights of the loss in one phase, from the recipe's section ``objective``.

    Attributes:
        alpha: factor inside both logistic terms, above 0.
        beta: weight of the historical term, at least 0.
        nll_weight: weight of the mean negative log-likelihood per token of the expert's answers, at least 0.
        entropy_weight: weight of the mean token entropy, which is rewarded, at least 0.
        reference: subtract the log-probabilities under the policy at the start of the iteration, as SPIN does.
        contrast_tokens: how many tokens of a sampled response count, from its first difference with y on; None is all.
    """

    alpha: float = 1.0
    beta: float = 0.0
    nll_weight: float = 0.0
    entropy_weight: float = 0.0
    reference: bool = False
    contrast_tokens: int | None = None


#: The warm-up's objective: with the expert's answers alone there is no contrast.
SUPERVISED = Objective(nll_weight=1.0)
