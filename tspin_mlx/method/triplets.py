"""The training data: a prompt with an expert's answer, the model's answers to it, and the triplet of the three.

Token ids are the truth and text is a copy for people: nothing is ever tokenised again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

#: Files of an iteration: its triplets, their log-probabilities at its start, and what training saw of them first.
TRIPLETS, REFERENCE, SCORES = "triplets.jsonl", "reference.jsonl", "scores.jsonl"


def samples_name(iteration: int) -> str:
    """The folder, within an iteration's, of the answers sampled at its start: y', which in iteration 0 are also y0."""
    return "synthetic" if iteration else "proto_synthetic"


@dataclass(frozen=True)
class Response:
    """What was answered to a prompt.

    Attributes:
        tokens: token ids; the last one is the end token exactly if the response ended by itself.
        text: the decoded response, without the end token.
        finish_reason: ``stop`` if it ended by itself, ``length`` if it was cut.
        seed: of the sampler, None for an expert's answer and for greedy decoding.
    """

    tokens: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    seed: int | None = None


@dataclass(frozen=True)
class Prompt:
    """An example after rendering.

    Attributes:
        id: unique in the run; names file and line it came from, or its own ``id``.
        tokens: the rendered prompt, up to where the model answers. Only positions after it are scored.
        text: the user's last turn, for people.
        annotated: the expert's answer, y.
        answer: what task metrics compare to.
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
    """(x, y, y', y0) of the paper; y0 is None where the historical term is off."""

    prompt: Prompt
    synthetic: Response
    proto_synthetic: Response | None

    def responses(self, contrast_tokens: int | None = None) -> tuple[Response, ...]:
        """y, y' and, if there is one, y0, as they are scored.

        Args:
            contrast_tokens: of y' and y0, only so many tokens from their first difference with y on; None is all.
        """
        annotated = self.prompt.annotated
        own = [response for response in (self.synthetic, self.proto_synthetic) if response]
        if contrast_tokens is not None:
            own = [until_difference(response, annotated, contrast_tokens) for response in own]
        return (annotated, *own)


@dataclass(frozen=True)
class Score:
    """What training saw of a triplet when it first came to it, within the first epoch of the iteration.

    The policy is then that at the start of the iteration, plus the steps of that epoch that came before; with LoRA
    dropout, which is on.

    Attributes:
        id: of the prompt.
        annotated_logp: log-probability of y, summed over its tokens, in nats.
        synthetic_logp: of y'.
        proto_synthetic_logp: of y0; None where the historical term is off.
    """

    id: str
    annotated_logp: float
    synthetic_logp: float
    proto_synthetic_logp: float | None = None

    @property
    def logps(self) -> tuple[float, ...]:
        """Of y, y' and, as far as it is there, y0."""
        found = (self.annotated_logp, self.synthetic_logp, self.proto_synthetic_logp)
        return tuple(value for value in found if value is not None)


def build_triplets(
    prompts: Sequence[Prompt], synthetic: Sequence[Response], proto_synthetic: Sequence[Response] | None
) -> list[Triplet]:
    """Put prompts and responses, given in the same order, together."""
    if proto_synthetic is None:
        return [Triplet(x, y, None) for x, y in zip(prompts, synthetic, strict=True)]
    return [Triplet(*three) for three in zip(prompts, synthetic, proto_synthetic, strict=True)]


def until_difference(response: Response, annotated: Response, tokens: int) -> Response:
    """A response up to ``tokens`` tokens from its first difference with the expert's answer on.

    What both begin with cancels in the contrast, and what follows a wrong word is often right again.
    """
    return replace(response, tokens=response.tokens[: common_prefix(response.tokens, annotated.tokens) + tokens])


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (mine, its) in enumerate(pairs) if mine != its), min(len(one), len(other)))


def to_row(record: Response | Prompt | Triplet | Score) -> dict[str, Any]:
    """Plain values for JSON."""
    return asdict(record)


def response_from_row(row: dict[str, Any]) -> Response:
    """The inverse of :func:`to_row` for a response."""
    return Response(**{**row, "tokens": tuple(row["tokens"])})


def prompt_from_row(row: dict[str, Any]) -> Prompt:
    """The inverse of :func:`to_row` for a prompt."""
    return Prompt(**{**row, "tokens": tuple(row["tokens"]), "annotated": response_from_row(row["annotated"])})


def triplet_from_row(row: dict[str, Any]) -> Triplet:
    """The inverse of :func:`to_row` for a triplet."""
    initial = row["proto_synthetic"]
    return Triplet(
        prompt=prompt_from_row(row["prompt"]),
        synthetic=response_from_row(row["synthetic"]),
        proto_synthetic=None if initial is None else response_from_row(initial),
    )
