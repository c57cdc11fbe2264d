"""A run that is being thought of: its recipe, what was changed, its data and its cost. No widget in here."""

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

_ROWS = 20  # that are read for the preview
_LOG_BYTES = 8 << 20  # of an earlier run, that are worth reading for its speed


@dataclass(frozen=True)
class Draft:
    """What was typed.

    Attributes:
        recipe: a name or a file.
        changes: ``key=value``, in the order of the form.
        fork: name of the new run, if it is a fork.
    """

    recipe: str
    changes: tuple[str, ...] = ()
    fork: str | None = None

    @property
    def arguments(self) -> list[str]:
        """Of ``tspin-mlx run``."""
        return ["run", self.recipe, *self.changes, *(["--fork", self.fork] if self.fork else [])]


@dataclass(frozen=True)
class Outlook:
    """What can be known of a draft without the model.

    Attributes:
        defaults: the recipe's own value of each key.
        rows: place, prompt and answer of the first rows, or the reason why a row is none.
        characters: mean lengths of prompts and answers.
        error: what is wrong, in words.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[tuple[str, str, str], ...] = ()
    characters: tuple[float, float] | None = None
    error: str = ""


def look_at(draft: Draft) -> Outlook:
    """Read the recipe and the first rows of its data."""
    defaults: dict[str, Any] = {}
    try:
        source = find_recipe(draft.recipe)
        defaults = parse_source(source).settings
        recipe = parse_source(source, draft.changes)
        if is_remote(recipe.data.train):
            return Outlook(defaults, (("", f"{recipe.data.train} is read when the run is made", ""),))
        found = first_rows(recipe.data, source.path.parent, _ROWS)
    except TspinError as error:
        return Outlook(defaults, error="\n→ ".join(filter(None, (error.message, error.hint))))
    rows, lengths = [], []
    for place, example in found:
        if isinstance(example, Exception):
            rows.append((place, str(example), ""))
        else:
            prompt = example.messages[-1]["content"]
            rows.append((place, shorten(prompt, 400), shorten(example.response, 400)))
            lengths.append((sum(len(turn["content"]) for turn in example.messages), len(example.response)))
    means = (fmean(a for a, _ in lengths), fmean(b for _, b in lengths)) if lengths else None
    return Outlook(defaults, tuple(rows), means)


def earlier_speed(folder: Path, model: str) -> tuple[Speed, int] | None:
    """What the latest run with a model took, and the bytes of its adapter; None without such a run."""
    for path in sorted(run_paths(folder), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            run = Run(path)
        except DamagedError:
            continue
        if run.outline.settings["model.path"] != model or not 0 < _size(run.events_path) < _LOG_BYTES:
            continue
        if (speed := speed_of(view_of(run.events_path), run.outline)) is not None:
            adapter = next(iter(sorted(path.glob("**/adapter/adapters.safetensors"))), None)
            return speed, _size(adapter) if adapter else 0
    return None


def changes_of(run: Run) -> tuple[str, tuple[str, ...]]:
    """The recipe of a run, and what was changed of it on the command line.

    Raises:
        TspinError: the recipe is not known, or not there any more.
    """
    name = run.about.get("recipe") or f"{run.path / 'recipe.yaml'}"
    recipe = parse_source(find_recipe(name)).settings
    used = run.outline.settings
    changed = {key: value for key, value in used.items() if key in recipe and recipe[key] != value}
    changed["run.name"] = run.name
    return name, tuple(to_override(key, value) for key, value in changed.items())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
