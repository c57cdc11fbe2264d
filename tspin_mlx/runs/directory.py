"""A run is a folder. What has its final name in it is done; nothing else says so."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..data import Splits
from ..errors import UsageError
from ..plan import NO_INFLUENCE, Phase, Plan
from ..recipe_text import flatten
from ..triplets import Prompt, prompt_from_row, to_row
from . import store

_SPLITS = ("train", "validation", "test")


class Run:
    """The folder of one run.

    Args:
        path: an existing run.

    Raises:
        UsageError: not a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "run.json").is_file():
            raise UsageError(f"{path}: no such run", hint="`tspin-mlx runs ls` lists them")
        self.about: dict[str, Any] = store.read_json(path / "run.json")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def events_path(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def plan_row(self) -> dict[str, Any]:
        """The plan as it was written when the run was made."""
        return store.read_json(self.path / "plan.json")

    def is_done(self, phase: Phase) -> bool:
        """Whether the phase's result has its final name."""
        return (self.path / phase.target).exists()

    @property
    def is_finished(self) -> bool:
        """Whether every phase is done."""
        return all((self.path / phase["target"]).exists() for phase in self.plan_row["phases"])

    def prompts(self) -> Splits[Prompt]:
        """The rendered examples."""
        parts: dict[str, list[Prompt]] = {name: [] for name in _SPLITS}
        for row in store.read_jsonl(self.path / "prompts.jsonl"):
            parts[row.pop("split")].append(prompt_from_row(row))
        return Splits(tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]))

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """``eval.json`` of every policy measured so far, by the policy's folder, in their order."""
        phases = [phase for phase in self.plan_row["phases"] if phase["kind"] == "evaluate"]
        done = [phase for phase in phases if (self.path / phase["target"]).exists()]
        return {phase["policy"]: store.read_json(self.path / phase["target"]) for phase in done}

    def result(self) -> dict[str, Any] | None:
        """Which policy was chosen, and why; None before the end."""
        return self._optional("result.json")

    def test(self) -> dict[str, Any] | None:
        """Measures on the test examples; None before the end or without such examples."""
        return self._optional("test.json")

    def _optional(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return store.read_json(path) if path.exists() else None


def create_run(path: Path, plan: Plan, recipe_text: str, model: dict[str, str], prompts: Splits[Prompt]) -> Run:
    """Make a run's folder, complete or not at all.

    Args:
        recipe_text: as the user wrote it.
        model: ``name``, ``path`` and ``fingerprint`` of the base model.
    """
    with store.new_folder(path) as folder:
        about = {
            "created": round(time.time(), 3),
            "fingerprint": plan.fingerprint,
            "model": model,
            "machine": {
                "system": platform.system(),
                "machine": platform.machine(),
                "python": platform.python_version(),
            },
            "versions": {name: version(name) for name in ("tspin-mlx", "mlx", "mlx-lm")},
        }
        store.write_json(folder / "run.json", about)
        store.write_text(folder / "recipe.yaml", recipe_text)
        store.write_json(folder / "plan.json", plan.to_row())
        store.write_jsonl(folder / "prompts.jsonl", prompt_rows(prompts))
    return Run(path)


def open_run(path: Path, plan: Plan) -> Run:
    """An existing run, if it is one of this plan.

    Raises:
        UsageError: the run was made from another recipe, model or data; the differences are named.
    """
    run = Run(path)
    if run.about["fingerprint"] != plan.fingerprint:
        differences = _differences(run.plan_row, plan.to_row())
        raise UsageError(
            f"the run {run.name!r} was made with other settings: {'; '.join(differences)}",
            hint="choose another name with run.name=NAME, or give the settings it was made with",
        )
    return run


def list_runs(folder: Path) -> list[Run]:
    """The runs in a folder, oldest first."""
    found = [Run(path.parent) for path in folder.glob("*/run.json") if not path.parent.name.startswith(".")]
    return sorted(found, key=lambda run: run.about["created"])


def prompt_rows(prompts: Splits[Prompt]) -> list[dict[str, Any]]:
    """The rows of ``prompts.jsonl``."""
    return [{"split": name, **to_row(prompt)} for name in _SPLITS for prompt in getattr(prompts, name)]


def data_digest(prompts: Splits[Prompt]) -> str:
    """sha256 of the rendered examples."""
    return hashlib.sha256(json.dumps(prompt_rows(prompts), sort_keys=True).encode()).hexdigest()


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = flatten(before["recipe"]), flatten(now["recipe"])
    changed = [key for key in new if old.get(key) != new[key] and key not in NO_INFLUENCE]
    differences = [f"{key} was {old.get(key)!r}, is {new[key]!r}" for key in changed]
    if before["data_digest"] != now["data_digest"]:
        differences.append("the data files have changed")
    if before["model_fingerprint"] != now["model_fingerprint"]:
        differences.append("the model's files have changed")
    return differences or ["this version of tspin-mlx plans otherwise"]
