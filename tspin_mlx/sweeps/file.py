"""Sweep files (YAML): one recipe with arms and lists of values; the runs are all combinations (a grid). Pure."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from ..base.errors import RecipeError
from ..base.text import suggest
from ..recipe.parse import Places, known_keys, place_of, read_yaml, readable, removed_key, split_override, to_override
from ..recipe.schema import LONGEST_NAME, SAFE_NAME, Section
from ..recipe.settings import REMOVED, RENAMED

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class SweepFile(Section):
    """A sweep file: runs of one recipe over settings and seeds."""

    recipe: str
    """Name of a packaged recipe, or a YAML file relative to the sweep file."""
    settings: dict[str, Any] = Field(default={}, alias="set")
    """Changes to the recipe for all runs, such as ``training.iterations: 2``."""
    arms: dict[Annotated[str, Field(pattern=SAFE_NAME)], dict[str, Any]] = Field(default={})
    """Named variants, each with its own changes; by default a single one without changes."""
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    """Lists of values by key; each arm runs with every combination of them."""


@dataclass(frozen=True)
class Combination:
    """One run of a sweep.

    Attributes:
        name: of the run's folder; it depends only on the names of arm, varied keys and values.
        arm: its arm, None without arms.
        varied: the value of each varied key.
        own: changes to the recipe from the sweep file, as ``key=value``; paths in them are relative to it.
        given: further changes from the user.
    """

    name: str
    arm: str | None
    varied: dict[str, Any]
    own: tuple[str, ...]
    given: tuple[str, ...]


def parse_sweep(text: str, source: str) -> SweepFile:
    """Parse and validate a sweep file.

    Args:
        source: name of the text in errors, usually its file name.

    Raises:
        RecipeError: names the line and the key.
    """
    content, places = read_yaml(text, source)
    if not isinstance(content, dict):
        raise RecipeError(f"{source}: a sweep must be a mapping with the keys {', '.join(_KEYS)}")
    if "recipe" not in content and "data" in content:
        raise RecipeError(
            f"{source}: this is a recipe, not a sweep",
            hint=f"use `tspin-mlx run`; a sweep begins with `recipe: {source}`, see `tspin-mlx sweep --help`",
        )
    try:
        sweep = SweepFile.model_validate(content)
    except ValidationError as error:
        raise readable(error, places, source, SweepFile) from None
    _check(sweep, places, source)
    return sweep


def combinations(sweep: SweepFile, name: str, given: Sequence[str] = ()) -> list[Combination]:
    """List all runs of a sweep, arm by arm; the last varied key changes fastest.

    Args:
        name: of the sweep; the names of its runs begin with it.
        given: further changes, as ``key=value``. For a varied key, only the runs with that value are kept.

    Raises:
        RecipeError: a key that an arm sets or the sweep controls, or not of the form ``key=value``.
    """
    vary, others = dict(sweep.vary), []
    for override in given:
        path, value = split_override(override)
        key = ".".join(path)
        _check_not_ours(key, f"override {override!r}")
        for arm, changes in sweep.arms.items():
            if key in changes:
                raise RecipeError(f"override {override!r}: {key} is set by the arm {arm}")
        if key in vary:
            vary[key] = [value]
        else:
            others.append(override)
    runs = []
    arms: list[tuple[str | None, dict[str, Any]]] = [*sweep.arms.items()] or [(None, {})]
    for name_of_arm, changes in arms:
        for values in itertools.product(*vary.values()):
            varied = dict(zip(vary, values, strict=True))
            own = tuple(to_override(key, value) for key, value in (sweep.settings | changes | varied).items())
            title = _name(name, name_of_arm, varied)
            runs.append(Combination(title, name_of_arm, varied, own, tuple(others)))
    return runs


_KEYS = tuple(field.alias or name for name, field in SweepFile.model_fields.items())

#: Keys that the sweep controls.
_OURS = ("run.name", "run.folder")


def _check(sweep: SweepFile, places: Places, source: str) -> None:
    """Check that every key belongs to a recipe, and is set in only one place."""
    sections: dict[tuple[str, ...], dict[str, Any]] = {("set",): sweep.settings, ("vary",): sweep.vary}
    sections |= {("arms", arm): changes for arm, changes in sweep.arms.items()}
    for path, changes in sections.items():
        for key in changes:
            place = f"{place_of((*path, key), places, source)}: {'.'.join(path)}"
            _check_key(key, place)
            if path != ("vary",) and key in sweep.vary:
                raise RecipeError(f"{place}: {key} is also varied, at {place_of(('vary', key), places, source)}")
    _check_arms(list(sweep.arms), places, source)
    for key, values in sweep.vary.items():
        texts = Counter(to_override(key, value) for value in values)
        if repeated := [text for text, count in texts.items() if count > 1]:
            raise RecipeError(f"{place_of(('vary', key), places, source)}: {repeated[0]} is given twice")


def _check_key(key: str, place: str) -> None:
    _check_not_ours(key, place)
    if key in REMOVED:
        raise removed_key(key, place)
    known = known_keys()
    if key not in (*known, *RENAMED, "model"):
        hint = suggest(key, known, "keys have the form section.key; see `tspin-mlx schema`")
        raise RecipeError(f"{place}: unknown key {key}", hint=hint)


def _check_not_ours(key: str, place: str) -> None:
    if key in _OURS:
        raise RecipeError(f"{place}: the sweep itself sets {key}", hint="choose the folder of its runs with --folder")


def _check_arms(arms: list[str], places: Places, source: str) -> None:
    names = Counter(arm.lower() for arm in arms)
    if clash := [arm for arm in arms if names[arm.lower()] > 1]:
        place = place_of(("arms", clash[1]), places, source)
        raise RecipeError(f"{place}: arms: {clash[0]} and {clash[1]} differ only in case, which some disks ignore")


def _name(sweep: str, arm: str | None, varied: dict[str, Any]) -> str:
    """Build a run's name from arm and varied values; unsafe or long parts are replaced by a digest."""
    last = Counter(key.rsplit(".", 1)[-1] for key in varied)
    parts = [sweep] if arm is None else [sweep, arm]
    for key, value in varied.items():
        short = key.rsplit(".", 1)[-1]
        parts.append(f"{short if last[short] == 1 else key}-{_safe(value)}")
    name = "-".join(parts)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}-{_digest(name)}"


def _safe(value: Any) -> str:
    """Format a value for a folder name, which must be unique even if case is ignored, as on a Mac."""
    text = to_override("", value)[1:]
    safe = _UNSAFE.sub("_", text).strip("_")
    return safe if safe == text.lower() else f"{safe}.{_digest(text)[:4]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
