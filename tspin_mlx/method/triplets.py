"""Training triplets: a prompt with the expert's answer y, the policy's answer y' and its first answer y0, as token ids.

Training uses the token ids; text is a copy for people and is never tokenised again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

#: Files of an iteration: its triplets, their log-probabilities at its start, and those when first trained on.
TRIPLETS, REFERENCE, SCORES = "triplets.jsonl", "reference.jsonl", "scores.jsonl"


def samples_name(iteration: int) -> str:
    """Return the folder, within an iteration's, of the answers sampled at its start: y', in iteration 0 also y0."""
    return "synthetic" if iteration else "proto_synthetic"


@dataclass(frozen=True)
class Response:
    """An answer to a prompt.

    Attributes:
        tokens: token ids; the last one is the end token if and only if the response ended by itself.
        text: the decoded response, without the end token.
        finish_reason: ``stop`` if it ended by itself, ``length`` if it was cut off.
        seed: of the sampler, None for an expert's answer and for greedy decoding.
    """

    tokens: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    seed: int | None = None


@dataclass(frozen=True)
class Prompt:
    """A tokenised example: prompt and expert's answer.

    Attributes:
        id: unique in the run: the row's own ``id``, or its file and line.
        tokens: the prompt as the template renders it, up to where the model answers. Only tokens after it are scored.
        text: the user's last turn, for people.
        annotated: the expert's answer, y.
        answer: the reference of task metrics.
        system: the system prompt, if there is one, for people.
    """

    id: str
    tokens: tuple[int, ...]
    text: str
    annotated: Response
    answer: str
    system: str | None = None


@dataclass(frozen=True)
class Triplet:
    """The paper's (x, y, y', y0); y0 is None if the historical term is off."""

    prompt: Prompt
    synthetic: Response
    proto_synthetic: Response | None

    def responses(self, contrast_tokens: int | None = None) -> tuple[Response, ...]:
        """Return y, y' and, if there is one, y0, as they are scored.

        Args:
            contrast_tokens: cut y' and y0 this many tokens after their first difference with y; None keeps all.
        """
        annotated = self.prompt.annotated
        own = [response for response in (self.synthetic, self.proto_synthetic) if response]
        if contrast_tokens is not None:
            own = [until_difference(response, annotated, contrast_tokens) for response in own]
        return (annotated, *own)


@dataclass(frozen=True)
class Score:
    """The log-probabilities of a triplet when it was first trained on, in the first epoch of the iteration.

    They are the policy's after the earlier steps of that epoch, with LoRA dropout on.

    Attributes:
        id: the prompt's.
        annotated_logp: log-probability of y, summed over its tokens, in nats.
        synthetic_logp: of y'.
        proto_synthetic_logp: of y0; None if the historical term is off.
    """

    id: str
    annotated_logp: float
    synthetic_logp: float
    proto_synthetic_logp: float | None = None

    @property
    def logps(self) -> tuple[float, ...]:
        """Log-probabilities of y, y' and, if there is one, y0, in nats."""
        logps = (self.annotated_logp, self.synthetic_logp, self.proto_synthetic_logp)
        return tuple(logp for logp in logps if logp is not None)


def build_triplets(
    prompts: Sequence[Prompt], synthetic: Sequence[Response], proto_synthetic: Sequence[Response] | None
) -> list[Triplet]:
    """Combine prompts and responses, given in the same order, into triplets."""
    if proto_synthetic is None:
        return [Triplet(x, y, None) for x, y in zip(prompts, synthetic, strict=True)]
    return [Triplet(*three) for three in zip(prompts, synthetic, proto_synthetic, strict=True)]


def until_difference(response: Response, annotated: Response, tokens: int) -> Response:
    """Cut a response ``tokens`` tokens after its first difference with the expert's answer.

    Their common beginning cancels in the contrast, and what follows a wrong word is often right again.
    """
    return replace(response, tokens=response.tokens[: common_prefix(response.tokens, annotated.tokens) + tokens])


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (mine, its) in enumerate(pairs) if mine != its), min(len(one), len(other)))


def to_row(record: Response | Prompt | Triplet | Score) -> dict[str, Any]:
    """Convert a record to plain values for JSON."""
    return asdict(record)


def response_from_row(row: dict[str, Any]) -> Response:
    """Read a response from its row, the inverse of :func:`to_row`."""
    return Response(**{**row, "tokens": tuple(row["tokens"])})


def prompt_from_row(row: dict[str, Any]) -> Prompt:
    """Read a prompt from its row, the inverse of :func:`to_row`."""
    return Prompt(**{**row, "tokens": tuple(row["tokens"]), "annotated": response_from_row(row["annotated"])})


def triplet_from_row(row: dict[str, Any]) -> Triplet:
    """Read a triplet from its row, the inverse of :func:`to_row`."""
    initial = row["proto_synthetic"]
    return Triplet(
        prompt=prompt_from_row(row["prompt"]),
        synthetic=response_from_row(row["synthetic"]),
        proto_synthetic=None if initial is None else response_from_row(initial),
    )
