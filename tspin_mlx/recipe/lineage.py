"""Which results of one run hold in another: a digest per phase over all that went into it. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from .plan import Phase, PhaseKind, Plan
from .policy_names import BASE
from .schema import Recipe

#: The part of the data that a kind of phase reads itself; what others have read comes in through their results.
_PARTS: dict[PhaseKind, str] = {
    **dict.fromkeys(("warmup", "generate", "pair", "refer", "train", "supervise"), "train"),
    "evaluate": "validation",
    **dict.fromkeys(("test", "test_best"), "test"),
}


def lineage(plan: Plan) -> dict[str, str]:
    """sha256 by target; two plans that agree in it would make the same file or folder there."""
    world = {
        "model": plan.model_fingerprint,
        "dtype": plan.recipe.model.dtype,
        "lora": plan.recipe.lora.model_dump(mode="json"),
    }
    digests: dict[str, str] = {}
    for phase in plan.phases:
        own = {name: value for name, value in asdict(phase).items() if name != "title"}
        inputs = [digests[target] for target in _inputs(phase, plan)]
        data = plan.data_digests.get(_PARTS.get(phase.kind, ""))
        content = [world, data, own, _settings(phase, plan.recipe), inputs]
        digests[phase.target] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return digests


def shared(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Targets that two plans make alike, by their :func:`lineage`, in the order of the first."""
    return [target for target, digest in ours.items() if theirs.get(target) == digest]


def _inputs(phase: Phase, plan: Plan) -> list[str]:
    """Targets of the phases whose results this one reads; what those have read comes in through them."""
    policy = [] if phase.policy == BASE else [f"{phase.policy}/adapter"]
    return policy + [other.target for other in plan.phases if _reads(phase, other)]


def _reads(phase: Phase, other: Phase) -> bool:
    if phase.kind == "pair":
        earlier = (0, phase.iteration - 1, phase.iteration) if phase.iteration else (0,)
        return other.kind == "generate" and other.iteration in earlier
    if phase.kind in ("refer", "train"):
        same = other.iteration == phase.iteration
        return same and (other.kind == "pair" or (phase.kind, other.kind) == ("train", "refer"))
    return (phase.kind, other.kind) in (("choose", "evaluate"), ("test_best", "choose"))


def _settings(phase: Phase, recipe: Recipe) -> dict[str, Any]:
    """What a phase reads of the recipe beyond what the plan says of it."""
    sections = recipe.model_dump(mode="json")
    generation, evaluation = sections["generation"], sections["evaluation"]
    measured = {
        "metrics": evaluation["metrics"],
        "regex": evaluation["regex"],
        "max_tokens": evaluation["max_tokens"] or generation["max_tokens"],
        "batch_size": generation["batch_size"],
    }
    if phase.kind == "generate":
        later = () if phase.iteration else ("fresh_prompts",)  # what iteration 0 does not read
        return {name: value for name, value in generation.items() if name not in ("mix_previous", *later)}
    if phase.kind == "pair":
        mixed = bool(generation["mix_previous"] and phase.iteration)
        return {"historical": bool(recipe.objective.historical_weight(phase.iteration or 0)), "mixed": mixed}
    if phase.kind == "warmup":
        return {"prompts": recipe.warmup.prompts}
    if phase.kind == "supervise":
        return {"prompts": generation["prompts"], "fresh": bool(generation["fresh_prompts"] and phase.iteration)}
    if phase.kind == "evaluate":
        return {**measured, "guard": None if phase.iteration is None else sections["guard"]}
    if phase.kind == "choose":
        return {"best": evaluation["best"]}
    return measured if phase.kind in ("test", "test_best") else {}
