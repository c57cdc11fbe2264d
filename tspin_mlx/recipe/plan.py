"""Plan a run: expand a recipe into every phase, with its steps, seeds, learning rate and objective. Pure.

A recipe is what the user wrote; a plan follows from it, the model and the number of examples.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..base.seeds import derive
from ..method.objective import SUPERVISED, Objective
from ..method.triplets import REFERENCE, TRIPLETS, samples_name
from .phase import BatchSizes, Outline, Phase, PhaseKind, TrainConfig, TrainPhase
from .policy_names import BASE, INITIAL, iteration_folder, policy_before
from .schema import ObjectiveSection, Recipe
from .settings import nested

#: Keys of a recipe that cannot change a result: names of things that are digested by content, and descriptions.
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


@dataclass(frozen=True, kw_only=True)
class Plan(Outline):
    """A recipe with all its phases.

    Attributes:
        recipe: with all defaults filled in.
    """

    recipe: Recipe

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that can change a result: the content of files, but not their paths, nor wording."""
        settings = {key: value for key, value in self.settings.items() if key not in NO_INFLUENCE}
        work = [phase.work() for phase in self.phases]
        content = [self.model_fingerprint, self.data_digests, self.counts, settings, work]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def sizes(self) -> BatchSizes:
        """Batch sizes, and whether to use gradient checkpointing."""
        training = next((phase.train for phase in self.train_phases), self.recipe.training)
        return BatchSizes(training.grad_checkpoint, training.micro_batch_size, self.recipe.generation.batch_size)

    def with_sizes(self, sizes: BatchSizes) -> Plan:
        """Return the same plan with these sizes as upper limits; the optimiser's batch size stays the same."""
        asked_for = self.recipe.training.grad_checkpoint

        def smaller(phase: Phase) -> Phase:
            if not isinstance(phase, TrainPhase):
                return phase
            size = min(sizes.micro_batch_size, phase.train.micro_batch_size)
            checkpoint = asked_for if asked_for is True else sizes.grad_checkpoint
            return replace(phase, train=replace(phase.train, micro_batch_size=size, grad_checkpoint=checkpoint))

        generation = self.recipe.generation
        batch_size = min(sizes.generation_batch_size, generation.batch_size)
        generation = generation.model_copy(update={"batch_size": batch_size})
        recipe = self.recipe.model_copy(update={"generation": generation})
        return replace(self, recipe=recipe, settings=recipe.settings, phases=tuple(map(smaller, self.phases)))

    def to_row(self) -> dict[str, Any]:
        """Convert to plain values for ``plan.json``."""
        return {
            "model_fingerprint": self.model_fingerprint,
            "data_digests": dict(self.data_digests),
            "counts": dict(self.counts),
            "recipe": self.recipe.model_dump(mode="json"),
            "phases": [asdict(phase) for phase in self.phases],
        }


def make_plan(
    recipe: Recipe,
    counts: Mapping[str, int],
    model_fingerprint: str = "",
    data_digests: Mapping[str, str] | None = None,
) -> Plan:
    """Plan all phases of a recipe for a given number of examples."""
    phases = _phases(recipe, counts)
    return Plan(
        recipe=recipe,
        settings=recipe.settings,
        counts=counts,
        phases=tuple(replace(phase, seed=_seed(recipe.run.seed, phase)) for phase in phases),
        model_fingerprint=model_fingerprint,
        data_digests=data_digests or {},
    )


def replan(outline: Outline) -> Plan:
    """Plan the recipe of a stored plan as this version does; keys added since then get their defaults.

    Raises:
        ValidationError: the recipe has keys or values unknown to this version.
    """
    recipe = Recipe.model_validate(nested(outline.settings))
    return make_plan(recipe, outline.counts, outline.model_fingerprint, outline.data_digests)


def _phases(recipe: Recipe, counts: Mapping[str, int]) -> list[Phase]:
    """All phases in their order, without their seeds."""
    if recipe.warmup.epochs:
        phases = [_keep(BASE), _evaluate(BASE, "evaluate the base model"), _warmup(recipe, counts["train"])]
    else:
        phases = [_keep(INITIAL)]
    phases.append(_evaluate(INITIAL, "evaluate the initial policy"))
    for iteration in range(recipe.training.iterations):
        phases += _iteration(recipe, counts["train"], iteration)
    phases.append(Phase("choose", "choose the best policy", "result.json", BASE))
    if counts["test"]:
        if recipe.warmup.epochs:
            phases.append(_test(BASE, "test the base model"))
        phases.append(_test(INITIAL, "test the initial policy"))
        phases.append(Phase("test_best", "test the chosen policy", "test.json", BASE))
    return phases


def _seed(seed: int, phase: Phase) -> int:
    """Derive the seed of a phase from that of the run, by name, so that other phases do not change it."""
    if phase.iteration is not None:
        return derive(seed, phase.kind, phase.iteration)
    if phase.kind in ("evaluate", "test"):
        return derive(seed, phase.kind, phase.policy)
    return derive(seed, "test" if phase.kind == "test_best" else phase.kind)


def _keep(folder: str) -> Phase:
    return Phase("keep", "save the untrained adapter", f"{folder}/adapter", BASE)


def _evaluate(folder: str, title: str) -> Phase:
    return Phase("evaluate", title, f"{folder}/eval.json", folder)


def _test(folder: str, title: str) -> Phase:
    return Phase("test", title, f"{folder}/test.json", folder)


def _warmup(recipe: Recipe, train: int) -> TrainPhase:
    """Plan the supervised training before self-play."""
    warmup = recipe.warmup
    config = _train_config(recipe, min(train, warmup.prompts or train), warmup.epochs, warmup.learning_rate)
    title, target = "warm up on the expert's answers", f"{INITIAL}/adapter"
    return TrainPhase("warmup", title, target, BASE, train=config, objective=SUPERVISED)


def _iteration(recipe: Recipe, train: int, iteration: int) -> list[Phase]:
    """Plan one iteration: generate, pair, train, evaluate, as in :mod:`tspin_mlx.tspin`."""
    folder, policy = iteration_folder(iteration), policy_before(iteration)

    def phase(kind: PhaseKind, title: str, target: str, policy: str = policy) -> Phase:
        return Phase(kind, f"iteration {iteration}: {title}", f"{folder}/{target}", policy, iteration=iteration)

    def trained(kind: PhaseKind, title: str) -> TrainPhase:
        prompts = min(train, recipe.generation.prompts or train)
        config = _train_config(recipe, prompts, recipe.training.epochs, recipe.training.learning_rate)
        objective = _objective(recipe.objective, iteration)
        return TrainPhase(**vars(phase(kind, title, "adapter")), train=config, objective=objective)

    evaluation = phase("evaluate", "evaluate", "eval.json", folder)
    if recipe.objective.kind == "sft":
        return [trained("supervise", "train on the expert's answers"), evaluation]
    reference = [phase("refer", "score the triplets", REFERENCE)] if recipe.objective.has_reference else []
    return [
        phase("generate", "answer the prompts", samples_name(iteration)),
        phase("pair", "build triplets", TRIPLETS),
        *reference,
        trained("train", "train on triplets"),
        evaluation,
    ]


def _objective(section: ObjectiveSection, iteration: int) -> Objective:
    """Return the objective of one iteration; the first has no historical term."""
    if section.kind == "sft":
        return replace(SUPERVISED, entropy_weight=section.entropy_weight)
    return Objective(
        alpha=section.alpha,
        beta=section.historical_weight(iteration),
        nll_weight=section.nll_weight,
        entropy_weight=section.entropy_weight,
        reference=section.has_reference,
        contrast_tokens=section.contrast_tokens,
    )


def _train_config(recipe: Recipe, examples: int, epochs: int, learning_rate: float) -> TrainConfig:
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
        grad_checkpoint=training.grad_checkpoint,
    )
