"""Draft of a new run: recipe and overrides as typed, with a preview of its data and its likely cost. No widgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from tspin_mlx.base.errors import DamagedError, TspinError
from tspin_mlx.base.text import shorten
from tspin_mlx.data.read import first_rows, is_remote
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.parse import to_override
from tspin_mlx.runs.event_log import view_of
from tspin_mlx.runs.run import Run, run_paths
from tspin_mlx.view.estimate import Speed, speed_of

_PREVIEW_ROWS = 20
_MAX_LOG_BYTES = 8 << 20  # a longer log takes too long to read for an estimate


@dataclass(frozen=True)
class Draft:
    """A run that is not created yet.

    Attributes:
        recipe: a name or a file.
        overrides: ``key=value``, in the order of the form.
        fork: the name of the new run, if it is a fork.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    fork: str | None = None

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``tspin-mlx`` that start the run."""
        return ["run", self.recipe, *self.overrides, *(["--fork", self.fork] if self.fork else [])]


@dataclass(frozen=True)
class DraftPreview:
    """The preview of a draft, read without loading a model.

    Attributes:
        defaults: the recipe's own value of each key.
        rows: place, prompt and answer of the first rows; for an invalid row, the reason instead of the prompt.
        characters: mean lengths of prompts and answers.
        error: why the recipe or its data cannot be read, or empty.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[tuple[str, str, str], ...] = ()
    characters: tuple[float, float] | None = None
    error: str = ""


def preview_draft(draft: Draft) -> DraftPreview:
    """Read the recipe and the first rows of its data."""
    defaults: dict[str, Any] = {}
    try:
        source = find_recipe(draft.recipe)
        defaults = parse_source(source).settings
        recipe = parse_source(source, draft.overrides)
        if is_remote(recipe.data.train):
            return DraftPreview(defaults, (("", f"{recipe.data.train} is read when the run is created", ""),))
        examples = first_rows(recipe.data, source.path.parent, _PREVIEW_ROWS)
    except TspinError as error:
        return DraftPreview(defaults, error="\n→ ".join(filter(None, (error.message, error.hint))))
    rows, lengths = [], []
    for place, example in examples:
        if isinstance(example, Exception):
            rows.append((place, str(example), ""))
        else:
            prompt = example.messages[-1]["content"]
            rows.append((place, shorten(prompt, 400), shorten(example.response, 400)))
            lengths.append((sum(len(turn["content"]) for turn in example.messages), len(example.response)))
    means = (fmean(a for a, _ in lengths), fmean(b for _, b in lengths)) if lengths else None
    return DraftPreview(defaults, tuple(rows), means)


def latest_speed(folder: Path, model: str) -> tuple[Speed, int] | None:
    """Return the speed of the latest run with a model, and the bytes of its adapter; None without such a run."""
    for path in sorted(run_paths(folder), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            run = Run(path)
        except DamagedError:
            continue
        if run.outline.settings["model.path"] != model or not 0 < _size(run.events_path) < _MAX_LOG_BYTES:
            continue
        if (speed := speed_of(view_of(run.events_path), run.outline)) is not None:
            adapter = next(iter(sorted(path.glob("**/adapter/adapters.safetensors"))), None)
            return speed, _size(adapter) if adapter else 0
    return None


def overrides_of(run: Run) -> tuple[str, tuple[str, ...]]:
    """Return the recipe of a run, and the overrides it was started with.

    Raises:
        TspinError: the recipe is unknown, or no longer there.
    """
    name = run.about.get("recipe") or f"{run.path / 'recipe.yaml'}"
    recipe = parse_source(find_recipe(name)).settings
    used = run.outline.settings
    changed = {key: value for key, value in used.items() if key in recipe and recipe[key] != value}
    changed["run.name"] = run.name
    return name, tuple(to_override(key, value) for key, value in changed.items())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
