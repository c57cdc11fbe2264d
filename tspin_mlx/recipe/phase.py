"""The phases of a run: what each kind reads and makes, and one phase with everything that decides its result.

Pure dataclasses, without pydantic: run folders and screens read stored plans with them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..method.objective import Objective
from .settings import flatten, upgrade

PhaseKind = Literal[
    "keep", "evaluate", "warmup", "generate", "pair", "refer", "train", "supervise", "choose", "test", "test_best"
]

Split = Literal["train", "validation", "test"]
Optimizer = Literal["adamw", "adam", "rmsprop", "lion"]
Schedule = Literal["linear", "cosine", "constant"]

#: Gradient checkpointing; ``auto`` until it has been measured (see :mod:`tspin_mlx.training.fit_memory`).
GradCheckpoint = Literal["auto"] | bool

#: What greedy answers and their measures depend on.
_MEASURED = ("evaluation.metrics", "evaluation.regex", "answer_tokens", "generation.batch_size")


@dataclass(frozen=True)
class KindFacts:
    """The facts about one kind of phase.

    Attributes:
        split: the part of the data that it reads itself; what other phases have read comes in through their results.
        settings: keys or whole sections of the recipe that it reads beyond what the phase itself says. Two are derived:
            ``answer_tokens``, the longest greedy answer, and ``historical``, whether the iteration has y0.
        self_play_settings: the same, read in self-play only.
        reads: kinds of phases whose results it reads: in the same iteration if it belongs to one, else in all.
        reads_initial_samples: it also reads y0, the samples of iteration 0.
        answers: it generates an answer to each of its prompts.
        quick: it takes no time worth an estimate.
    """

    split: Split | None = None
    settings: tuple[str, ...] = ()
    self_play_settings: tuple[str, ...] = ()
    reads: tuple[PhaseKind, ...] = ()
    reads_initial_samples: bool = False
    answers: bool = False
    quick: bool = False


#: The one table of what the kinds of phases read and do.
KINDS: dict[PhaseKind, KindFacts] = {
    "keep": KindFacts(quick=True),
    "evaluate": KindFacts("validation", _MEASURED, ("guard",), answers=True),
    "warmup": KindFacts("train", ("warmup.prompts",)),
    "generate": KindFacts("train", ("generation",), answers=True),
    "pair": KindFacts("train", ("historical",), reads=("generate",), reads_initial_samples=True, quick=True),
    "refer": KindFacts("train", ("objective.contrast_tokens",), reads=("pair",)),
    "train": KindFacts("train", reads=("pair", "refer")),
    "supervise": KindFacts("train", ("generation.prompts",)),
    "choose": KindFacts(settings=("evaluation.best",), reads=("evaluate",), quick=True),
    "test": KindFacts("test", _MEASURED, answers=True, quick=True),
    "test_best": KindFacts("test", _MEASURED, reads=("choose",), answers=True),
}


@dataclass(frozen=True)
class BatchSizes:
    """How much is computed at once. It decides memory and time; results change by rounding only.

    Attributes:
        grad_checkpoint: recompute the activations of layers in the backward pass.
        micro_batch_size: triplets.
        generation_batch_size: prompts.
    """

    grad_checkpoint: GradCheckpoint
    micro_batch_size: int
    generation_batch_size: int

    def halved(self) -> BatchSizes:
        """The next smaller sizes: half of everything, with gradient checkpointing."""
        return BatchSizes(True, max(1, self.micro_batch_size // 2), max(1, self.generation_batch_size // 2))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> BatchSizes:
        """Read sizes from a decision of a run.

        Raises:
            KeyError, TypeError, ValueError: they are none.
        """
        sizes = cls(_stored_grad_checkpoint(row), row["micro_batch_size"], row["generation_batch_size"])
        counts = (sizes.micro_batch_size, sizes.generation_batch_size)
        if type(sizes.grad_checkpoint) is not bool or any(type(n) is not int or n < 1 for n in counts):
            raise ValueError(sizes)
        return sizes


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the optimiser's steps in one phase.

    Attributes:
        steps: in all epochs.
        epochs: passes over the examples.
        batch_size: examples per step; the last step of an epoch may have fewer.
        micro_batch_size: examples computed at once.
        optimizer: adamw, adam, rmsprop or lion.
        learning_rate: the peak.
        schedule: linear, cosine or constant, after ``warmup_steps``.
        warmup_steps: steps in which the rate rises.
        weight_decay: for the optimisers that have it.
        max_grad_norm: clip to this norm, None for no clipping.
        grad_checkpoint: recompute the activations of layers in the backward pass.
    """

    steps: int
    epochs: int
    batch_size: int
    micro_batch_size: int
    optimizer: Optimizer
    learning_rate: float
    schedule: Schedule
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float | None
    grad_checkpoint: GradCheckpoint


@dataclass(frozen=True)
class Phase:
    """One thing to do. It is done if and only if ``target`` exists.

    Attributes:
        kind: what.
        title: for people.
        target: the file or folder it makes, relative to the run.
        policy: folder of the policy it starts from: ``base``, ``initial`` or ``iterations/NNN``.
        seed: of all its randomness.
        iteration: self-play iteration from 0, None outside self-play.
    """

    kind: PhaseKind
    title: str
    target: str
    policy: str
    seed: int = 0
    iteration: int | None = None

    @property
    def facts(self) -> KindFacts:
        """What holds for its kind."""
        return KINDS[self.kind]

    def work(self) -> dict[str, Any]:
        """Everything that decides the result: the fields without the title, which is wording."""
        return {name: value for name, value in asdict(self).items() if name != "title"}


@dataclass(frozen=True)
class TrainPhase(Phase):
    """A phase that trains.

    Attributes:
        train: the optimiser's steps.
        objective: what they minimise.
    """

    train: TrainConfig = field(kw_only=True)
    objective: Objective = field(kw_only=True)

    @property
    def own_responses(self) -> int:
        """How many of the model's own responses an example has: y' and, with the historical term, y0."""
        if self.kind != "train":
            return 0
        return 2 if self.objective.beta else 1


@dataclass(frozen=True)
class Outline:
    """A plan as far as it can be read without checking its recipe.

    Attributes:
        counts: number of train, validation and test examples.
        phases: in their order.
        settings: the recipe's values by dotted key.
        model_fingerprint: of the base model; empty if it was not looked at.
        data_digests: sha256 of the rendered examples of each split; empty if they were not rendered.
    """

    counts: Mapping[str, int]
    phases: tuple[Phase, ...]
    settings: Mapping[str, Any]
    model_fingerprint: str = ""
    data_digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def train_phases(self) -> tuple[TrainPhase, ...]:
        """The phases that train."""
        return tuple(phase for phase in self.phases if isinstance(phase, TrainPhase))

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.train.steps for phase in self.train_phases)

    @property
    def iterations(self) -> int:
        """Self-play iterations."""
        return int(self.settings["training.iterations"])

    @property
    def warm(self) -> bool:
        """Whether there is a warm-up, after which the initial policy is not the model as it came."""
        return bool(self.settings["warmup.epochs"])

    @property
    def best_metric(self) -> str:
        """The held-out measure that chooses the best policy."""
        return str(self.settings["evaluation.best"])

    @property
    def samples_shown(self) -> int:
        """Answers shown before and after."""
        return int(self.settings["evaluation.samples"])

    def answers(self, phase: Phase) -> int:
        """How many answers a phase generates."""
        split = phase.facts.split
        if not phase.facts.answers or split is None:
            return 0
        count = self.counts[split]
        return min(count, self.settings["generation.prompts"] or count) if phase.kind == "generate" else count


def outline_from_row(row: Mapping[str, Any]) -> Outline:
    """Read ``plan.json``, also as earlier versions wrote it.

    Raises:
        KeyError, TypeError, ValueError: it is no plan.
    """
    recipe = copy.deepcopy(row["recipe"])
    upgrade(recipe)
    return Outline(
        counts=row["counts"],
        phases=tuple(map(phase_from_row, row["phases"])),
        settings=flatten(recipe),
        model_fingerprint=row["model_fingerprint"],
        data_digests=row["data_digests"],
    )


def phase_from_row(row: Mapping[str, Any]) -> Phase:
    """Read a phase from ``plan.json``, also as earlier versions wrote it.

    Raises:
        KeyError, TypeError: it is none.
    """
    common = {name: row[name] for name in ("kind", "title", "target", "policy", "seed", "iteration")}
    train = row.get("train", row.get("updates"))  # format 1
    if train is None:
        return Phase(**common)
    names = TrainConfig.__dataclass_fields__.keys() - {"grad_checkpoint"}
    config = TrainConfig(**{name: train[name] for name in names}, grad_checkpoint=_stored_grad_checkpoint(train))
    stored = row["objective"]
    objective = Objective(**{name: stored[name] for name in Objective.__dataclass_fields__ if name in stored})
    return TrainPhase(**common, train=config, objective=objective)


def _stored_grad_checkpoint(row: Mapping[str, Any]) -> GradCheckpoint:
    """``grad_checkpoint``, which format 1 called ``memory``: fast or lean."""
    if "memory" in row:
        values: dict[str, GradCheckpoint] = {"auto": "auto", "fast": False, "lean": True}
        return values[row["memory"]]
    value: GradCheckpoint = row["grad_checkpoint"]
    return value
