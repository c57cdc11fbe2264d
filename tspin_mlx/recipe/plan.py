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
    return Plan(
        recipe=recipe,
        settings=recipe.settings,
        counts=counts,
        phases=tuple(_phases(recipe, counts)),
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
    seed, warmup = recipe.run.seed, recipe.warmup
    if warmup.epochs:
        phases = [_keep(BASE, seed), _evaluate(BASE, "evaluate the base model", seed), _warmup(recipe, counts["train"])]
    else:
        phases = [_keep(INITIAL, seed)]
    phases.append(_evaluate(INITIAL, "evaluate the initial policy", seed))
    for iteration in range(recipe.training.iterations):
        phases += _iteration(recipe, counts["train"], iteration)
    phases.append(Phase("choose", "choose the best policy", "result.json", BASE, derive(seed, "choose")))
    if counts["test"]:
        phases += [_test(folder, seed) for folder in ((BASE, INITIAL) if warmup.epochs else (INITIAL,))]
        phases.append(Phase("test_best", "test the chosen policy", "test.json", BASE, derive(seed, "test")))
    return phases


def _warmup(recipe: Recipe, train: int) -> Phase:
    """Plan the supervised training before self-play."""
    warmup = recipe.warmup
    config = _train_config(recipe, min(train, warmup.prompts or train), warmup.epochs, warmup.learning_rate)
    return TrainPhase(
        kind="warmup",
        title="warm up on the expert's answers",
        target=f"{INITIAL}/adapter",
        policy=BASE,
        seed=derive(recipe.run.seed, "warmup"),
        train=config,
        objective=SUPERVISED,
    )


def _iteration(recipe: Recipe, train: int, iteration: int) -> list[Phase]:
    """Plan one iteration: generate, pair, train, evaluate, as in :mod:`tspin_mlx.tspin`."""
    folder, policy = iteration_folder(iteration), policy_before(iteration)
    prompts = min(train, recipe.generation.prompts or train)

    def fields(kind: PhaseKind, title: str, target: str, start: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "title": f"iteration {iteration}: {title}",
            "target": f"{folder}/{target}",
            "policy": start,
            "seed": derive(recipe.run.seed, kind, iteration),
            "iteration": iteration,
        }

    def trained(kind: PhaseKind, title: str) -> TrainPhase:
        config = _train_config(recipe, prompts, recipe.training.epochs, recipe.training.learning_rate)
        return TrainPhase(
            **fields(kind, title, "adapter", policy), train=config, objective=_objective(recipe.objective, iteration)
        )

    reference = Phase(**fields("refer", "score the triplets", REFERENCE, policy))
    evaluation = Phase(**fields("evaluate", "evaluate", "eval.json", folder))
    if recipe.objective.kind == "sft":
        return [trained("supervise", "train on the expert's answers"), evaluation]
    return [
        Phase(**fields("generate", "answer the prompts", samples_name(iteration), policy)),
        Phase(**fields("pair", "build triplets", TRIPLETS, policy)),
        *([reference] if recipe.objective.has_reference else []),
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


def _keep(folder: str, seed: int) -> Phase:
    return Phase("keep", "save the untrained adapter", f"{folder}/adapter", BASE, derive(seed, "keep"))


def _evaluate(folder: str, title: str, seed: int) -> Phase:
    return Phase("evaluate", title, f"{folder}/eval.json", folder, derive(seed, "evaluate", folder))


def _test(folder: str, seed: int) -> Phase:
    what = "base model" if folder == BASE else "initial policy"
    return Phase("test", f"test the {what}", f"{folder}/test.json", folder, derive(seed, "test", folder))


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
