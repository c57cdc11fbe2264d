"""Which results of one run hold in another: a digest per phase over all that went into it. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from .plan import BASE, INITIAL, Phase, Plan, iteration_folder
from .recipe import Recipe


def lineage(plan: Plan) -> dict[str, str]:
    """sha256 by target; two plans that agree in it would make the same file or folder there."""
    world = {
        "model": plan.model_fingerprint,
        "data": plan.data_digest,
        "dtype": plan.recipe.model.dtype,
        "lora": plan.recipe.lora.model_dump(mode="json"),
    }
    digests: dict[str, str] = {}
    for phase in plan.phases:
        own = {name: value for name, value in asdict(phase).items() if name != "title"}
        inputs = [digests[target] for target in _inputs(phase, plan)]
        content = [world, own, _settings(phase, plan.recipe), inputs]
        digests[phase.target] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return digests


def _inputs(phase: Phase, plan: Plan) -> list[str]:
    """Targets of the phases whose results this one reads."""
    found = [] if phase.policy == BASE else [f"{phase.policy}/adapter"]
    if phase.kind in ("pair", "train"):
        before = ("generate",) if phase.kind == "pair" else ("pair",)
        first_and_this = (0, phase.iteration) if phase.kind == "pair" else (phase.iteration,)
        found += [other.target for other in plan.phases if other.kind in before and other.iteration in first_and_this]
    if phase.kind == "evaluate" and phase.iteration is not None:
        previous = iteration_folder(phase.iteration - 1) if phase.iteration else INITIAL
        found += [f"{folder}/eval.json" for folder in (INITIAL, previous)]
    if phase.kind in ("choose", "test"):
        found += [other.target for other in plan.phases if other.kind == "evaluate"]
    if phase.kind == "test":
        found += [other.target for other in plan.phases if other.kind == "choose"]
    return found


def _settings(phase: Phase, recipe: Recipe) -> dict[str, Any]:
    """What a phase reads of the recipe beyond what the plan says of it."""
    sections = recipe.model_dump(mode="json")
    generation, evaluation = sections["generation"], sections["evaluation"]
    measured = {name: evaluation[name] for name in ("metrics", "regex", "max_tokens")}
    answered = {name: generation[name] for name in ("max_tokens", "batch_size")}
    if phase.kind == "generate":
        return generation
    if phase.kind == "pair":
        return {"historical": bool(recipe.objective.beta and phase.iteration)}
    if phase.kind == "evaluate":
        return {**measured, **answered, "guard": sections["guard"]}
    if phase.kind == "choose":
        return {"best": evaluation["best"]}
    return {**measured, **answered} if phase.kind == "test" else {}
