"""The triplets of an iteration with what training saw of them, for screens: no model is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..plan import SCORES
from ..policy_names import iteration_folder
from ..triplets import Score, Triplet, triplet_from_row
from .directory import Run

#: What samples can be ordered by: an advantage, the smallest first, or the prompt's id.
Order = Literal["current", "historical", "id"]


@dataclass(frozen=True)
class Sample:
    """A triplet and its score.

    Attributes:
        score: None while the iteration is not trained.
    """

    triplet: Triplet
    score: Score | None

    @property
    def current_advantage(self) -> float | None:
        """u, in nats; None while it is not known."""
        return None if self.score is None else self.score.current_advantage

    @property
    def historical_advantage(self) -> float | None:
        """v, in nats; None while it is not known, and where the historical term is off."""
        return None if self.score is None else self.score.historical_advantage

    def to_row(self) -> dict[str, Any]:
        """Plain values for JSON: the texts, not the tokens."""
        triplet, score = self.triplet, self.score
        initial = triplet.proto_synthetic
        return {
            "id": triplet.prompt.id,
            "system": triplet.prompt.system,
            "prompt": triplet.prompt.text,
            "annotated": triplet.prompt.annotated.text,
            "synthetic": triplet.synthetic.text,
            "proto_synthetic": None if initial is None else initial.text,
            "annotated_logp": score and score.annotated_logp,
            "synthetic_logp": score and score.synthetic_logp,
            "proto_synthetic_logp": score and score.proto_synthetic_logp,
            "current_advantage": self.current_advantage,
            "historical_advantage": self.historical_advantage,
        }


def read_samples(run: Run, iteration: int, order: Order = "id") -> list[Sample]:
    """The triplets of an iteration; with ``id``, in the order of the training examples.

    Raises:
        DamagedError: their files are not what was written.
    """
    folder = iteration_folder(iteration)
    scores = {}
    if run.store.has(f"{folder}/{SCORES}"):
        scores = {row["id"]: Score(**row) for row in run.store.read_jsonl(f"{folder}/{SCORES}")}
    triplets = [triplet_from_row(row) for row in run.store.read_jsonl(f"{folder}/triplets.jsonl")]
    samples = [Sample(triplet, scores.get(triplet.prompt.id)) for triplet in triplets]
    if order != "id":
        samples.sort(key=lambda sample: _advantage(sample, order))
    return samples


def _advantage(sample: Sample, order: Order) -> float:
    """For sorting; what is not known comes last."""
    found = sample.current_advantage if order == "current" else sample.historical_advantage
    return float("inf") if found is None else found
