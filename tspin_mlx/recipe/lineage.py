"""Lineage digests: one sha256 per phase over everything its result depends on, to reuse results between runs. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .phase import Phase
from .plan import Plan
from .policy_names import BASE


def lineage(plan: Plan) -> dict[str, str]:
    """Compute the digest of each phase, sha256 by target. Equal digests in two plans mean equal results."""
    recipe = plan.recipe
    common = {
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
        content = [common, data, phase.work(), _settings(phase, settings), inputs]
        digests[phase.target] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return digests


def shared(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """List the targets with equal :func:`lineage` digests in two plans, in the order of the first."""
    return [target for target, digest in ours.items() if theirs.get(target) == digest]


def _inputs(phase: Phase, plan: Plan) -> list[str]:
    """List the targets of the phases whose results this one reads directly."""
    policy = [] if phase.policy == BASE else [f"{phase.policy}/adapter"]
    return policy + [other.target for other in plan.phases if _reads(phase, other)]


def _reads(phase: Phase, other: Phase) -> bool:
    if other.kind not in phase.facts.reads:
        return False
    initial = phase.facts.reads_initial_samples and other.iteration == 0
    return phase.iteration is None or other.iteration == phase.iteration or initial


def _settings(phase: Phase, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Select the settings that a phase of this kind reads."""
    facts = phase.facts
    names = facts.settings if phase.iteration is None else (*facts.settings, *facts.self_play_settings)
    return {key: value for key, value in settings.items() if key in names or key.split(".")[0] in names}
