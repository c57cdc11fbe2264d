"""Prompts with the answers that were given to them, as a run has kept them, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..policy_names import INITIAL
from .directory import Run


@dataclass(frozen=True)
class Sample:
    """One prompt and its answers.

    Attributes:
        id: of the prompt.
        prompt: the user's last turn.
        annotated, synthetic, proto_synthetic: texts of y, y' and y0; None where there is none.
        answer: what the policy answered after the iteration; None for a training prompt.
        cut: which of the answers did not end by themselves.
        logps: log-probabilities of y, y' and y0, in nats: of a held-out prompt under the policy after the iteration,
            of a training prompt as its first epoch saw them. Empty if not kept.
    """

    id: str
    prompt: str
    annotated: str
    synthetic: str | None = None
    proto_synthetic: str | None = None
    answer: str | None = None
    cut: frozenset[str] = frozenset()
    logps: tuple[float, ...] = ()

    @property
    def current(self) -> float | None:
        """The current advantage: log π(y) − log π(y')."""
        return self.logps[0] - self.logps[1] if len(self.logps) > 1 else None

    @property
    def historical(self) -> float | None:
        """The historical advantage: log π(y') − log π(y0)."""
        return self.logps[1] - self.logps[2] if len(self.logps) > 2 else None


def iterations_of(run: Run) -> list[int]:
    """The iterations whose triplets are there."""
    rows = run.plan_row["phases"]
    return [row["iteration"] for row in rows if row["kind"] == "pair" and run.store.has(row["target"])]


def evaluated(run: Run) -> list[str]:
    """The policies that were measured and have a part in self-play, in their order."""
    rows = [row for row in run.plan_row["phases"] if row["kind"] == "evaluate" and run.store.has(row["target"])]
    return [row["policy"] for row in rows if row["policy"] == INITIAL or "/" in row["policy"]]


def held_out(run: Run, policy: str) -> list[Sample]:
    """The validation prompts, answered greedily by a policy, by the one before it (y') and by the initial one (y0).

    Raises:
        DamagedError: a file is not what was written.
    """
    found = run.evaluations()
    order = evaluated(run)
    before = order[max(0, order.index(policy) - 1)]
    logps = found[policy].get("logps", {})
    kept = [logps[name] for name in ("annotated", "synthetic", "proto_synthetic") if name in logps]
    return [
        _sample(
            prompt.id,
            prompt.text,
            prompt.annotated.text,
            synthetic=found[before]["responses"][i],
            proto_synthetic=found[INITIAL]["responses"][i],
            answer=found[policy]["responses"][i],
            logps=[values[i] for values in kept],
        )
        for i, prompt in enumerate(run.prompts().validation)
    ]


def trained_on(run: Run, iteration: int) -> list[Sample]:
    """The triplets of an iteration; y0 is y' where the historical term is off.

    Raises:
        DamagedError: the file is not what was written.
    """
    from .samples import read_samples  # brings pydantic, which screens do without as long as they can

    return [
        _sample(
            triplet.prompt.id,
            triplet.prompt.text,
            triplet.prompt.annotated.text,
            synthetic=vars(triplet.synthetic),
            proto_synthetic=vars(triplet.proto_synthetic) if triplet.proto_synthetic else None,
            logps=score.logps if score else (),
        )
        for triplet, score in ((sample.triplet, sample.score) for sample in read_samples(run, iteration))
    ]


def _sample(
    id: str, prompt: str, annotated: str, *, logps: Sequence[float] = (), **answers: dict[str, Any] | None
) -> Sample:
    given = {name: answer for name, answer in answers.items() if answer is not None}
    return Sample(
        id,
        prompt,
        annotated,
        **{name: answer["text"] for name, answer in given.items()},
        cut=frozenset(name for name, answer in given.items() if answer["finish_reason"] != "stop"),
        logps=tuple(logps),
    )
