"""What runs came to: everything the tables need, small enough to keep."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tspin_mlx.base.errors import UsageError
from tspin_mlx.method.triplets import Prompt
from tspin_mlx.recipe.plan import NO_INFLUENCE
from tspin_mlx.runs.event_log import view_of
from tspin_mlx.runs.policies import best_so_far
from tspin_mlx.runs.run import Run, run_paths
from tspin_mlx.runs.samples import read_triplets
from tspin_mlx.sweeps.compare import differing

from . import instructions

#: Checks of answers that are no metrics of tspin-mlx, by the task's system prompt: name and function.
CHECKS = {instructions.SYSTEM: ("form", instructions.fits)}


def collect(folders: Sequence[Path]) -> dict[str, Any]:
    """One row for each finished run in some folders, which are runs or hold them, in the order they were made.

    Returns:
        ``runs``, and ``unfinished``: the names of those that are left out.

    Raises:
        UsageError: there is none, or two would count as the same one.
    """
    runs = [Run(path) for folder in folders for path in run_paths(folder) or [folder]]
    runs.sort(key=lambda run: run.about["created"])
    rows = [_row(run) for run in runs if run.is_finished]
    if not rows:
        raise UsageError(f"no finished run in {', '.join(map(str, folders))}")
    names = Counter((row["sweep"], row["name"]) for row in rows)
    if twice := [name for (_, name), count in names.items() if count > 1]:
        raise UsageError(f"two runs are called {twice[0]}", hint="collect their folders in files of their own")
    _keep_what_differs(rows)
    return {"runs": rows, "unfinished": [run.name for run in runs if not run.is_finished]}


def arm_of(name: str, sweep: str) -> str:
    """``snips-full-tspin-25-seed-0`` of the sweep ``snips-full`` is an arm ``tspin-25``."""
    return re.sub(r"-seed-\d+(?=-|$)", "", name.removeprefix(f"{sweep}-"))


def _row(run: Run) -> dict[str, Any]:
    view, prompts = view_of(run.events_path), run.prompts()
    peaks = view.steps.column("memory/peak_bytes")
    sweep = run.path.absolute().parent.name
    return {
        "name": run.name,
        "sweep": sweep,
        "arm": arm_of(run.name, sweep),
        "seed": run.outline.settings["run.seed"],
        "settings": {key: value for key, value in run.outline.settings.items() if key not in NO_INFLUENCE},
        "measure": run.outline.best_metric,
        "best": best_so_far(run)["best"],
        "validation": _measures(run.evaluations(), prompts.validation),
        "test": _measures(run.test() or {}, prompts.test),
        "seconds": round(sum(view.durations.values()), 1),
        "iteration_seconds": _iteration_seconds(run, view.durations),
        "taken_over": len((run.about["forked_from"] or {"reused": []})["reused"]),
        "trained_tokens": _trained_tokens(run, prompts.train),
        "sampled_tokens": _sampled_tokens(run),
        "peak_memory_bytes": int(np.nanmax(peaks)) if np.isfinite(peaks).any() else None,
        "machine": {**run.about["machine"], **view.machine},
        "versions": run.about["versions"],
    }


def _keep_what_differs(rows: list[dict[str, Any]]) -> None:
    """Leave in ``settings`` what is not the same in all rows, seeds aside."""
    keys = [key for key in differing([row["settings"] for row in rows]) if key != "run.seed"]
    for row in rows:
        row["settings"] = {key: row["settings"].get(key) for key in keys}


def _measures(measured: dict[str, Any], prompts: Sequence[Prompt]) -> dict[str, dict[str, float]]:
    """Measures by policy, with those of the task's own check; six decimals are enough."""
    found = {policy: part["metrics"] | _checked(part["responses"], prompts) for policy, part in measured.items()}
    return {policy: {name: round(value, 6) for name, value in part.items()} for policy, part in found.items()}


def _checked(responses: list[dict[str, Any]], prompts: Sequence[Prompt]) -> dict[str, float]:
    if prompts[0].system not in CHECKS:
        return {}
    name, check = CHECKS[prompts[0].system]
    return {name: fmean(check(p.answer, r["text"]) for p, r in zip(prompts, responses, strict=True))}


def _iteration_seconds(run: Run, durations: dict[str, float]) -> float | None:
    """What one iteration took, evaluation aside: the sum over its kinds of phases of their means. None if the run took
    all phases of a kind over from another one."""
    kinds: dict[str, list[float]] = {}
    for phase in run.outline.phases:
        if phase.iteration is not None and phase.kind != "evaluate":
            took = durations.get(phase.target)
            kinds.setdefault(phase.kind, []).extend([] if took is None else [took])
    return round(sum(map(fmean, kinds.values())), 1) if kinds and all(kinds.values()) else None


def _trained_tokens(run: Run, train: Sequence[Prompt]) -> int:
    """Prompt and response tokens of all iterations' steps; the warm-up, which all arms share, is not among them."""
    total, settings = 0, run.outline.settings
    for phase in run.outline.train_phases:
        if phase.iteration is None or not run.store.has(phase.target):
            continue
        if phase.kind == "supervise":
            chosen = train[: settings["generation.prompts"]]
            tokens = sum(len(prompt.tokens) + len(prompt.annotated.tokens) for prompt in chosen)
        else:
            tokens = sum(
                len(t.prompt.tokens) + len(r.tokens)
                for t in read_triplets(run, phase.iteration)
                for r in t.responses(phase.objective.contrast_tokens)
            )
        total += phase.train.epochs * tokens
    return total


def _sampled_tokens(run: Run) -> int:
    """Tokens of all sampled responses."""
    done = [phase for phase in run.outline.phases if phase.kind == "generate" and run.store.has(phase.target)]
    folders = [run.path / phase.target for phase in done]
    files = [path for folder in folders for path in sorted(folder.glob("shard-*.jsonl"))]
    rows = (row for path in files for row in run.store.read_jsonl(path.relative_to(run.path).as_posix()))
    return sum(len(row["tokens"]) for row in rows)
