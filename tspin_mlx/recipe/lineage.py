"""Which results of one run hold in another: a digest per phase over everything that went into it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .phase import Phase
from .plan import Plan
from .policy_names import BASE


def lineage(plan: Plan) -> dict[str, str]:
    """Digest each phase of a plan: sha256 by target. Where two plans agree, they would make the same there."""
    recipe = plan.recipe
    world = {
        "model": plan.model_fingerprint,
        "dtype": recipe.model.dtype,
        "lora": recipe.lora.model_dump(mode="json"),
    }
    settings = {**recipe.settings, "answer_tokens": recipe.answer_tokens}
    digests: dict[str, str] = {}
    for phase in plan.phases:
        settings["historical"] = bool(recipe.objective.historical_weight(phase.iteration or 0))
        data = plan.data_digests.get(phase.facts.split or "")
        inputs = [digests[target] for target in _inputs(phase, plan)]
        content = [world, data, phase.work(), _settings(phase, settings), inputs]
        digests[phase.target] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return digests


def shared(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """List the targets that two plans make alike, by their :func:`lineage`, in the order of the first."""
    return [target for target, digest in ours.items() if theirs.get(target) == digest]


def _inputs(phase: Phase, plan: Plan) -> list[str]:
    """Targets of the phases whose results this one reads; what those have read comes in through them."""
    policy = [] if phase.policy == BASE else [f"{phase.policy}/adapter"]
    return policy + [other.target for other in plan.phases if _reads(phase, other)]


def _reads(phase: Phase, other: Phase) -> bool:
    if other.kind not in phase.facts.reads:
        return False
    initial = phase.facts.reads_initial_samples and other.iteration == 0
    return phase.iteration is None or other.iteration == phase.iteration or initial


def _settings(phase: Phase, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a phase of this kind reads."""
    facts = phase.facts
    names = facts.settings if phase.iteration is None else (*facts.settings, *facts.self_play_settings)
    return {key: value for key, value in settings.items() if key in names or key.split(".")[0] in names}
