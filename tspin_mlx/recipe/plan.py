"""What a run will do, with nothing left open: every phase, step and seed. Pure, and fingerprinted.

A recipe is what the user wrote; a plan is what follows from it, the model and the number of examples.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..base.seeds import derive
from ..method.objective import SUPERVISED, Objective
from ..method.triplets import REFERENCE, TRIPLETS, samples_name
from .parse import flatten
from .policy_names import BASE, INITIAL, iteration_folder, policy_before
from .schema import GenerationSection, Memory, ObjectiveSection, Optimizer, Recipe, Schedule

PhaseKind = Literal[
    "keep", "evaluate", "warmup", "generate", "pair", "refer", "train", "supervise", "choose", "test", "test_best"
]

#: Keys of a recipe that cannot change a result: names of things whose contents are digested, and wording.
NO_INFLUENCE = frozenset(
    (
        "description",
        "measured",
        "run.name",
        "run.folder",
        "model.path",
        "data.train",
        "data.validation",
        "data.test",
        "evaluation.samples",
        "run.checkpoint_seconds",
    )
)


@dataclass(frozen=True)
class BatchSizes:
    """How much is computed at once: it decides memory and time, and results but for rounding.

    Attributes:
        memory: how a training step treats the activations of layers.
        micro_batch_size: triplets.
        generation_batch_size: prompts.
    """

    memory: Memory
    micro_batch_size: int
    generation_batch_size: int

    def halved(self) -> BatchSizes:
        """With less memory: half of everything, and layers computed again."""
        return BatchSizes("lean", max(1, self.micro_batch_size // 2), max(1, self.generation_batch_size // 2))


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
        schedule: how it falls after ``warmup_steps``.
        warmup_steps: steps in which it rises.
        weight_decay: for the optimisers that have it.
        max_grad_norm: clip to this norm, None for no clipping.
        memory: ``fast`` or ``lean``; ``auto`` until it has been measured (see :mod:`tspin_mlx.training.fit_memory`).
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
    memory: Memory


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
        updates: optimiser steps, for phases that train.
        objective: what they minimise.
    """

    kind: PhaseKind
    title: str
    target: str
    policy: str
    seed: int
    iteration: int | None = None
    updates: TrainConfig | None = None
    objective: Objective | None = None


@dataclass(frozen=True)
class Plan:
    """A recipe with every consequence.

    Attributes:
        recipe: with all defaults filled in.
        counts: number of train, validation and test examples.
        phases: in their order.
        model_fingerprint: of the base model, empty before it was looked at.
        data_digests: sha256 of the rendered examples of each part, empty before they were.
    """

    recipe: Recipe
    counts: dict[str, int]
    phases: tuple[Phase, ...]
    model_fingerprint: str = ""
    data_digests: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.updates.steps for phase in self.phases if phase.updates)

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that can change a result: contents of files count, not where they are."""
        row = self.to_row()
        settings = flatten(row.pop("recipe"))
        row["settings"] = {key: value for key, value in settings.items() if key not in NO_INFLUENCE}
        return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()

    @property
    def sizes(self) -> BatchSizes:
        """How much is computed at once."""
        training = next((phase.updates for phase in self.phases if phase.updates), self.recipe.training)
        return BatchSizes(training.memory, training.micro_batch_size, self.recipe.generation.batch_size)

    def with_sizes(self, sizes: BatchSizes) -> Plan:
        """The same plan with at most so much computed at once; the optimiser's batches stay."""
        phases, asked_for = [], self.recipe.training.memory
        for phase in self.phases:
            if updates := phase.updates:
                size = min(sizes.micro_batch_size, updates.micro_batch_size)
                memory = asked_for if asked_for == "lean" else sizes.memory
                phase = replace(phase, updates=replace(updates, micro_batch_size=size, memory=memory))
            phases.append(phase)
        generation = self.recipe.generation
        batch_size = min(sizes.generation_batch_size, generation.batch_size)
        generation = generation.model_copy(update={"batch_size": batch_size})
        return replace(self, recipe=self.recipe.model_copy(update={"generation": generation}), phases=tuple(phases))

    def to_row(self) -> dict[str, Any]:
        """Plain values for ``plan.json``."""
        return {
            "model_fingerprint": self.model_fingerprint,
            "data_digests": self.data_digests,
            "counts": self.counts,
            "recipe": self.recipe.model_dump(mode="json"),
            "phases": [asdict(phase) for phase in self.phases],
        }


def self_play_prompts(section: GenerationSection, train: int, iteration: int) -> list[int]:
    """Which training examples an iteration uses, by index.

    Args:
        train: how many there are.
        iteration: from 0.
    """
    count = min(train, section.prompts or train)
    first = iteration * count if section.fresh_prompts else 0
    return [(first + i) % train for i in range(count)]


def make_plan(
    recipe: Recipe, counts: dict[str, int], model_fingerprint: str = "", data_digests: dict[str, str] | None = None
) -> Plan:
    """Work out all phases of a recipe for a given number of examples."""
    return Plan(
        recipe=recipe,
        counts=counts,
        phases=tuple(_phases(recipe, counts)),
        model_fingerprint=model_fingerprint,
        data_digests=data_digests or {},
    )


def plan_from_row(row: dict[str, Any]) -> Plan:
    """The plan that ``plan.json`` holds; keys that were added to recipes since have their defaults."""
    recipe = Recipe.model_validate(row["recipe"])
    return make_plan(recipe, row["counts"], row["model_fingerprint"], row["data_digests"])


def _phases(recipe: Recipe, counts: dict[str, int]) -> list[Phase]:
    seed = recipe.run.seed
    warmup = recipe.warmup
    if warmup.epochs:
        phases = [
            _kept(BASE, seed),
            _evaluation(BASE, "evaluate the base model", seed),
            Phase(
                kind="warmup",
                title="warm up on the expert's answers",
                target=f"{INITIAL}/adapter",
                policy=BASE,
                seed=derive(seed, "warmup"),
                updates=_updates(
                    recipe, min(counts["train"], warmup.prompts or counts["train"]), warmup.epochs, warmup.learning_rate
                ),
                objective=SUPERVISED,
            ),
        ]
    else:
        phases = [_kept(INITIAL, seed)]
    phases.append(_evaluation(INITIAL, "evaluate the initial policy", seed))
    for iteration in range(recipe.training.iterations):
        phases += _iteration(recipe, counts, iteration)
    phases.append(Phase("choose", "choose the best policy", "result.json", BASE, derive(seed, "choose")))
    if counts["test"]:
        phases += [_test(folder, seed) for folder in ((BASE, INITIAL) if warmup.epochs else (INITIAL,))]
        phases.append(Phase("test_best", "test the chosen policy", "test.json", BASE, derive(seed, "test")))
    return phases


def _iteration(recipe: Recipe, counts: dict[str, int], iteration: int) -> list[Phase]:
    """Generate, pair, train, evaluate. The first iteration's responses are the initial policy's, so that they
    are also the proto-synthetic ones, and its historical term is off (arXiv 2601.08198)."""
    folder, policy = iteration_folder(iteration), policy_before(iteration)
    objective = _objective(recipe.objective, iteration)
    training, generation = recipe.training, recipe.generation
    prompts = len(self_play_prompts(generation, counts["train"], iteration))
    examples = 2 * prompts if generation.mix_previous and iteration else prompts

    def phase(kind: PhaseKind, title: str, target: str, start: str, **more: Any) -> Phase:
        named = derive(recipe.run.seed, kind, iteration)
        return Phase(kind, f"iteration {iteration}: {title}", f"{folder}/{target}", start, named, iteration, **more)

    def trained(kind: PhaseKind, title: str, examples: int) -> Phase:
        updates = _updates(recipe, examples, training.epochs, training.learning_rate)
        return phase(kind, title, "adapter", policy, updates=updates, objective=objective)

    evaluation = phase("evaluate", "evaluate", "eval.json", folder)
    if recipe.objective.kind == "sft":
        return [trained("supervise", "train on the expert's answers", prompts), evaluation]
    reference = phase("refer", "score the triplets", REFERENCE, policy, objective=objective)
    initial = phase("generate", "answer the prompts as at the start", "proto_synthetic", INITIAL)
    initial = replace(initial, seed=derive(recipe.run.seed, "generate", 0))  # a prompt has one y0, whenever it is asked
    return [
        phase("generate", "answer the prompts", samples_name(iteration), policy),
        *([initial] if generation.fresh_prompts and objective.beta else []),
        phase("pair", "build triplets", TRIPLETS, policy),
        *([reference] if objective.reference else []),
        trained("train", "train on triplets", examples),
        evaluation,
    ]


def _objective(section: ObjectiveSection, iteration: int) -> Objective:
    """What one iteration minimises; the first has no historical term."""
    if section.kind == "sft":
        return replace(SUPERVISED, entropy_weight=section.entropy_weight)
    return Objective(
        alpha=section.alpha,
        beta=section.historical_weight(iteration),
        nll_weight=section.nll_weight,
        entropy_weight=section.entropy_weight,
        length_normalize=section.length_normalize,
        reference=section.has_reference,
        contrast_tokens=section.contrast_tokens,
    )


def _kept(folder: str, seed: int) -> Phase:
    return Phase("keep", "keep the model as it is", f"{folder}/adapter", BASE, derive(seed, "keep"))


def _evaluation(folder: str, title: str, seed: int) -> Phase:
    return Phase("evaluate", title, f"{folder}/eval.json", folder, derive(seed, "evaluate", folder))


def _test(folder: str, seed: int) -> Phase:
    what = "base model" if folder == BASE else "initial policy"
    return Phase("test", f"test the {what}", f"{folder}/test.json", folder, derive(seed, "test", folder))


def _updates(recipe: Recipe, examples: int, epochs: int, learning_rate: float) -> TrainConfig:
    training = recipe.training
    steps = epochs * math.ceil(examples / training.batch_size)
    return TrainConfig(
        steps=steps,
        epochs=epochs,
        batch_size=training.batch_size,
        micro_batch_size=training.micro_batch_size,
        optimizer=training.optimizer,
        learning_rate=learning_rate,
        schedule=training.schedule,
        warmup_steps=round(training.warmup_ratio * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        memory=training.memory,
    )
