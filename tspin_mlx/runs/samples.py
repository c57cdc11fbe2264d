"""Samples of a run for people to read: prompts with stored answers, log-probabilities and advantages; no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..method.triplets import SCORES, TRIPLETS, Prompt, Response, Score, Triplet, response_from_row, triplet_from_row
from ..recipe.policy_names import INITIAL, iteration_folder
from .run import Run

#: Order of samples: as in the file, or by an advantage, the smallest first.
Order = Literal["file", "current", "historical"]

#: The responses whose log-probabilities are stored, in their order.
_ROLES = ("annotated", "synthetic", "proto_synthetic")


@dataclass(frozen=True)
class Sample:
    """One prompt and its answers.

    Attributes:
        prompt: with the expert's answer, y.
        synthetic: y'.
        proto_synthetic: y0; None if the historical term is off.
        answer: the policy's answer after the iteration; None for a training prompt.
        logps: log-probabilities of y, y' and, if there is one, y0, in nats: of a held-out prompt under the policy after
            the iteration, of a training prompt in its first epoch. Empty if not known.
    """

    prompt: Prompt
    synthetic: Response
    proto_synthetic: Response | None
    answer: Response | None = None
    logps: tuple[float, ...] = ()

    @property
    def current(self) -> float | None:
        """The current advantage u: log π(y) − log π(y')."""
        return self.logps[0] - self.logps[1] if len(self.logps) > 1 else None

    @property
    def historical(self) -> float | None:
        """The historical advantage v: log π(y') − log π(y0)."""
        return self.logps[1] - self.logps[2] if len(self.logps) > 2 else None

    def to_row(self) -> dict[str, Any]:
        """Convert to plain values for JSON: the texts, not the tokens."""
        initial = self.proto_synthetic
        logps = dict(zip(_ROLES, self.logps, strict=False))
        return {
            "id": self.prompt.id,
            "system": self.prompt.system,
            "prompt": self.prompt.text,
            "annotated": self.prompt.annotated.text,
            "synthetic": self.synthetic.text,
            "proto_synthetic": None if initial is None else initial.text,
            **{f"{role}_logp": logps.get(role) for role in _ROLES},
            "current_advantage": self.current,
            "historical_advantage": self.historical,
        }


def iterations_of(run: Run) -> list[int]:
    """List the iterations that have triplets."""
    pairs = [phase for phase in run.outline.phases if phase.kind == "pair" and run.store.has(phase.target)]
    return [phase.iteration for phase in pairs if phase.iteration is not None]


def evaluated(run: Run) -> list[str]:
    """List the evaluated policies that take part in self-play, in their order."""
    return [policy for policy in run.evaluated() if policy == INITIAL or "/" in policy]


def read_triplets(run: Run, iteration: int) -> list[Triplet]:
    """Read the triplets of an iteration, in the order of the training examples.

    Raises:
        DamagedError: their file has changed since it was written.
    """
    return [triplet_from_row(row) for row in run.store.read_jsonl(f"{iteration_folder(iteration)}/{TRIPLETS}")]


def trained_on(run: Run, iteration: int) -> list[Sample]:
    """Read the triplets of an iteration with their log-probabilities in training, in the order of the examples.

    Raises:
        DamagedError: a file has changed since it was written.
    """
    file, logps = f"{iteration_folder(iteration)}/{SCORES}", {}
    if run.store.has(file):
        logps = {row["id"]: Score(**row).logps for row in run.store.read_jsonl(file)}
    return [
        Sample(t.prompt, t.synthetic, t.proto_synthetic, logps=logps.get(t.prompt.id, ()))
        for t in read_triplets(run, iteration)
    ]


def held_out(run: Run, policy: str) -> list[Sample]:
    """Read the validation prompts with greedy answers of a policy, of the one before it (y') and the initial one (y0).

    Raises:
        DamagedError: a file has changed since it was written.
    """
    evaluations, order = run.evaluations(), evaluated(run)
    answers = {name: [response_from_row(row) for row in evaluations[name]["responses"]] for name in order}
    before = answers[order[max(0, order.index(policy) - 1)]]
    stored = evaluations[policy].get("logps", {})
    logps = list(zip(*(stored[role] for role in _ROLES if role in stored), strict=True))
    return [
        Sample(prompt, before[i], answers[INITIAL][i], answers[policy][i], logps[i] if logps else ())
        for i, prompt in enumerate(run.prompts().validation)
    ]


def ordered(samples: Sequence[Sample], order: Order) -> list[Sample]:
    """Sort samples; those whose advantage is not known come last."""
    if order == "file":
        return list(samples)
    values = {"current": lambda sample: sample.current, "historical": lambda sample: sample.historical}
    return sorted(samples, key=lambda sample: float("inf") if (v := values[order](sample)) is None else v)
