"""Create a run's folder atomically; a fork copies the results of another run that are still valid."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..base import filesystem
from ..data.read import Splits
from ..method.triplets import SCORES, Prompt, to_row
from ..recipe.lineage import lineage, shared
from ..recipe.plan import Plan
from ..recipe.policy_names import BEST
from .run import FORMAT, MEASURED, SPLITS, Run
from .store import Store


def create_run(
    path: Path,
    plan: Plan,
    recipe_text: str,
    model: dict[str, str],
    prompts: Splits[Prompt],
    origin: Run | None = None,
    recipe_path: Path | None = None,
) -> Run:
    """Create a run's folder, complete or not at all.

    Args:
        recipe_text: as the user wrote it.
        model: ``name``, ``path`` and ``fingerprint`` of the base model.
        origin: a run to copy results from, if this plan would compute the same.
        recipe_path: of the recipe's file, for other runs of it.
    """
    with filesystem.new_folder(path) as folder:
        store = Store(folder)
        reused = _reuse(origin, plan, folder) if origin else []
        about = {
            "format": FORMAT,
            "created": round(time.time(), 3),
            "model": model,
            "recipe": str(recipe_path.absolute()) if recipe_path else None,
            "machine": {
                "system": platform.system(),
                "machine": platform.machine(),
                "python": platform.python_version(),
            },
            "versions": {name: version(name) for name in ("tspin-mlx", "mlx", "mlx-lm")},
            "forked_from": {"run": origin.name, "reused": reused} if origin else None,
        }
        store.write_text("recipe.yaml", recipe_text)
        store.write_json("plan.json", plan.to_row())
        store.write_jsonl("prompts.jsonl", prompt_rows(prompts))
        store.write_json("run.json", about)
    return Run(path)


def prompt_rows(prompts: Splits[Prompt]) -> list[dict[str, Any]]:
    """Build the rows of ``prompts.jsonl``."""
    return [{"split": name, **to_row(prompt)} for name in SPLITS for prompt in getattr(prompts, name)]


def data_digests(prompts: Splits[Prompt]) -> dict[str, str]:
    """Compute the sha256 of the tokenised examples of each split."""
    rows = {name: [to_row(prompt) for prompt in getattr(prompts, name)] for name in SPLITS}
    return {name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest() for name, part in rows.items()}


def _reuse(origin: Run, plan: Plan, folder: Path) -> list[str]:
    """Copy the results of ``origin`` that ``plan`` would compute again identically; returns the copied targets."""
    before = replace(origin.replan(), phases=origin.outline.phases)  # the phases as they were run
    same = shared(lineage(plan), lineage(before))
    reused = [target for target in same if origin.store.is_intact(target)]
    store = Store(folder)
    for target in reused:
        if (origin.path / target).is_dir():
            with store.new_folder(target) as aside:
                shutil.copytree(origin.path / target, aside, dirs_exist_ok=True)
        else:
            store.write_text(target, (origin.path / target).read_text(encoding="utf-8"))
        scores = (Path(target).parent / SCORES).as_posix()
        if target.endswith("/adapter") and origin.store.is_intact(scores):
            store.write_text(scores, (origin.path / scores).read_text(encoding="utf-8"))
    if "result.json" in reused:
        store.point(BEST, f"{store.read_json('result.json')['best']}/adapter")
    decisions = origin.decisions()
    if decisions and (decisions[-1].reason != MEASURED or _steps(plan) == _steps(before)):
        shutil.copyfile(origin.path / "decisions.jsonl", folder / "decisions.jsonl")
    return reused


def _steps(plan: Plan) -> list[Any]:
    """List everything that decides the memory of a training step: while it is equal, a measurement stays valid."""
    last = [(phase.kind, phase.objective) for phase in plan.train_phases][-1:]
    recipe = plan.recipe
    common = [plan.model_fingerprint, plan.data_digests.get("train"), recipe.model.dtype, recipe.lora]
    return [*common, recipe.generation.max_tokens, plan.sizes, last]
