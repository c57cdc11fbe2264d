"""Small runs on the tiny model: their data, their recipe, the folder that holds both, and the runs made from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tspin_mlx.jobs.launch import prepare
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.runs.run import Run
from tspin_mlx.view.events import Event

Row = dict[str, Any]

#: What the recipe of a small task says unless a test says otherwise.
SETTINGS: dict[str, Any] = {
    "lora.rank": 2,
    "data.train": "train.jsonl",
    "data.validation": "validation.jsonl",
    "data.test": "test.jsonl",
    "generation.max_tokens": 12,
    "generation.batch_size": 4,
    "warmup.epochs": 1,
    "warmup.learning_rate": 0.01,
    "training.iterations": 2,
    "training.epochs": 1,
    "training.batch_size": 4,
    "training.learning_rate": 0.01,
    "evaluation.metrics": ["exact_match"],
}

#: Rows of each data file.
COUNTS = {"train": 8, "validation": 4, "test": 3}

#: How the runs of :func:`make_small_run` differ from those of any other small task.
_SMALL_RUN: dict[str, Any] = {
    "description": "a small task",
    "lora.rank": 4,
    "lora.layers": 1,
    "objective.alpha": 0.5,
    "objective.nll_weight": 1,
    "evaluation.best": "nll",
    "evaluation.samples": 1,
    "run.name": "small",
}


def jsonl(rows: Iterable[Any]) -> str:
    """The text of a JSON Lines file."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def small_row(split: str, i: int) -> Row:
    """Example ``i`` of a split: the answer is its number in brackets."""
    return {"prompt": f"{split} {i}", "response": f"[{i}]"}


def write_task(
    folder: Path,
    model: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    counts: Mapping[str, int] = COUNTS,
    row: Callable[[str, int], Row] = small_row,
) -> Path:
    """Write ``task.yaml`` and a data file for each split into ``folder``; gives the folder.

    Args:
        settings: of the recipe, by dotted key, beside or instead of :data:`SETTINGS`; a key with ``None`` is left out.
        counts: rows of each split.
        row: makes example ``i`` of a split.
    """
    for split, count in counts.items():
        (folder / f"{split}.jsonl").write_text(jsonl(row(split, i) for i in range(count)))
    recipe: dict[str, Any] = {"model": str(model)}
    for key, value in (SETTINGS | dict(settings or {})).items():
        section, _, name = key.rpartition(".")
        if value is not None:
            (recipe.setdefault(section, {}) if section else recipe)[name] = value
    (folder / "task.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder


def new_run(task: Path, runs: Path, *overrides: str, **options: Any) -> Run:
    """A run of the task in the folder ``task`` that nobody has worked on yet; ``runs`` is the folder to make it in.

    Args:
        options: of :func:`tspin_mlx.jobs.launch.prepare`, such as the run that it is a fork of.
    """
    source = find_recipe(str(task / "task.yaml"))
    return prepare(parse_source(source, [f"run.folder={runs}", *overrides]), source, **options).run


def work_on(run: Run) -> list[Event]:
    """Work on a run in this process until it ends; gives its events."""
    from tspin_mlx.engine.worker import work  # loads MLX

    events: list[Event] = []
    work(run, events.append)
    return events


def prepare_small_run(model: Path, folder: Path, *overrides: str) -> Run:
    """A run of a few steps that nobody has worked on yet; its task is written into ``folder``."""
    write_task(folder, model, _SMALL_RUN, row=lambda split, i: {**small_row(split, i), "system": "Be brief."})
    return new_run(folder, folder / "runs", *overrides)


def make_small_run(model: Path, folder: Path, *overrides: str) -> Path:
    """The same run, finished; its path."""
    run = prepare_small_run(model, folder, *overrides)
    work_on(run)
    return run.path
