"""Measure a policy on held-out examples: likelihood, advantages, and the task metrics of greedy answers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ..base.progress import OnProgress
from ..generation.batch import Decoding, generate
from ..method.triplets import Prompt, Response
from ..models.adapters import fused
from ..models.load import Policy
from ..recipe.schema import EvaluationSection
from ..scoring.collate import Example
from ..scoring.logprobs import score
from .metrics import metric


def answer_greedily(
    policy: Policy,
    prompts: Sequence[Prompt],
    max_tokens: int,
    batch_size: int,
    on_progress: OnProgress | None = None,
) -> list[Response]:
    """Answer each prompt with greedy decoding.

    Args:
        max_tokens: longest answer.
        batch_size: prompts answered at once.
        on_progress: see :func:`tspin_mlx.generation.batch.generate`.
    """
    decoding = Decoding(temperature=0, top_p=1, max_tokens=max_tokens, batch_size=batch_size)
    return generate(policy, prompts, [None] * len(prompts), decoding, on_progress)


def measure(
    policy: Policy,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    opponent: Sequence[Response] | None,
    initial: Sequence[Response] | None,
    section: EvaluationSection,
    on_progress: OnProgress | None = None,
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Measure a policy on held-out examples.

    Args:
        prompts: held-out prompts with the expert's answers.
        responses: the policy's greedy answers, for the task metrics.
        opponent: greedy answers of the policy that this one was trained against, used as y' in the advantages. None
            leaves the advantages out, as for a model outside self-play.
        initial: greedy answers of the initial policy, used as y0. None uses ``opponent``.
        section: the task metrics.
        on_progress: see :func:`tspin_mlx.scoring.logprobs.score`.

    Returns:
        ``nll`` (nats per token of y), ``stop_rate`` (in [0, 1]), ``length`` (tokens per answer), the task metrics
        (in [0, 1]), ``advantage_current`` and ``advantage_historical`` (means, in nats); and the log-probabilities
        behind them, of each prompt's ``annotated``, ``synthetic`` and ``proto_synthetic`` response.
    """
    others = [list(answers) for answers in (opponent, initial) if answers is not None]
    distinct = others[:1] if others[1:] == others[:1] else others
    examples: list[Example] = [
        (prompt, (prompt.annotated, *two)) for prompt, *two in zip(prompts, *distinct, strict=True)
    ]
    scorer = policy.scorer  # created lazily, and must see the model before it is fused
    with fused(policy):
        logps = score(scorer, examples, on_progress)
    measures = {
        "nll": float(-logps[0].sum() / sum(len(prompt.annotated.tokens) for prompt in prompts)),
        "stop_rate": fmean(response.finish_reason == "stop" for response in responses),
        "length": fmean(len(response.tokens) for response in responses),
    }
    kept = {"annotated": logps[0].tolist()}
    if distinct:
        kept |= {"synthetic": logps[1].tolist(), "proto_synthetic": logps[-1].tolist()}
        measures["advantage_current"] = float((logps[0] - logps[1]).mean())
        measures["advantage_historical"] = float((logps[1] - logps[-1]).mean())
    for name in section.metrics:
        judge = metric(name, section.regex)
        measures[name] = fmean(
            judge(response.text, prompt.answer) for prompt, response in zip(prompts, responses, strict=True)
        )
    return measures, kept
