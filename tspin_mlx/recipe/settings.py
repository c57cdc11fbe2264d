"""A recipe's settings under dotted keys, and the keys of earlier versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Renamed keys: the new name, and the new value for each old one.
RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "training.memory": ("training.grad_checkpoint", {"auto": "auto", "fast": False, "lean": True}),
}

#: Removed keys: the value that had no effect. docs/method.md says what the others did, and what was measured.
REMOVED: dict[str, Any] = {
    "objective.length_normalize": False,
    "generation.fresh_prompts": False,
    "generation.mix_previous": False,
}


@dataclass(frozen=True)
class Upgrade:
    """One change made to a recipe.

    Attributes:
        old: dotted key.
        new: its new name, None if it was dropped.
    """

    old: str
    new: str | None


def flatten(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys and plain values: ``{"training.epochs": 2, ...}``."""
    flat: dict[str, Any] = {}
    for key, value in sections.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`flatten`."""
    sections: dict[str, Any] = {}
    for dotted, value in flat.items():
        *path, key = dotted.split(".")
        section = sections
        for name in path:
            section = section.setdefault(name, {})
        section[key] = value
    return sections


def upgrade(recipe: dict[str, Any]) -> list[Upgrade]:
    """Rename or drop the keys of earlier versions, in place.

    A key that cannot be converted stays: the schema then refuses it by name.

    Args:
        recipe: nested sections, as read from YAML or JSON; not checked yet.
    """
    made = []
    for old, (new, values) in RENAMED.items():
        section, key = _section(recipe, old)
        if key in section and isinstance(value := section[key], str) and value in values:
            del section[key]
            section.setdefault(new.rsplit(".", 1)[1], values[value])
            made.append(Upgrade(old, new))
    for old, without_effect in REMOVED.items():
        section, key = _section(recipe, old)
        if key in section and section[key] is without_effect:
            del section[key]
            made.append(Upgrade(old, None))
    return made


def _section(recipe: dict[str, Any], dotted: str) -> tuple[dict[str, Any], str]:
    """The section of a key, empty if the recipe has none, and the key within it."""
    name, key = dotted.split(".")
    section = recipe.get(name)
    return (section if isinstance(section, dict) else {}), key
