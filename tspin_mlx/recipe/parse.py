"""Parse YAML and ``key=value`` overrides into a validated :class:`Recipe`; errors name line and key."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..base.errors import RecipeError
from ..base.text import did_you_mean
from .schema import Recipe
from .settings import REMOVED, upgrade

Path = tuple[str | int, ...]

#: ``file:line`` of each key, by its path.
Places = dict[Path, str]

#: Characters that JSON allows in text, but YAML reads as line ends or rejects.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

#: Messages for pydantic's errors that use Python terms.
_PLAIN = {
    "model_type": "must be a section of keys and values",
    "tuple_type": "must be a list",
    "string_pattern_mismatch": "must start with a letter or digit; only letters, digits, '.', '_' and '-' are allowed",
}


def parse_recipe(text: str, source: str, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Parse the recipe in ``text``, and apply ``overrides`` such as ``training.learning_rate=1e-4``.

    Args:
        source: name of the text in errors, usually its file name.

    Raises:
        RecipeError: not YAML, an unknown or repeated key, or a value out of range.
    """
    content, places = read_yaml(text, source)
    if not isinstance(content, dict):
        raise RecipeError(f"{source}: a recipe must be a mapping of sections such as data: and training:")
    for override in overrides:
        path, value = split_override(override)
        _assign(content, path, value, override)
        place = f"override {override!r}"
        places[path] = place
        for depth in range(1, len(path)):
            places[path[:depth]] = place
    _upgrade(content, places, source)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise readable(error, places, source) from None


def _upgrade(content: dict[str, Any], places: Places, source: str) -> None:
    """Accept keys of earlier versions, with a warning that names the new one."""
    for change in upgrade(content):
        old = tuple(change.old.split("."))
        place = place_of(old, places, source)
        if change.new is None:
            message = f"{place}: {change.old} was removed; delete it"
        else:
            places[tuple(change.new.split("."))] = place
            message = f"{place}: {change.old} has been renamed to {change.new}"
        warnings.warn(message, FutureWarning, stacklevel=3)


def read_yaml(text: str, source: str) -> tuple[Any, Places]:
    """Parse YAML text, and note where each key is.

    Raises:
        RecipeError: not YAML, or a duplicate key.
    """
    places: Places = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
        _note_places(node, (), source, places)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as a date that does not exist
        raise RecipeError(f"{source}: not valid YAML: {_yaml_reason(error)}") from None
    except RecursionError:
        raise RecipeError(f"{source}: not valid YAML: nested too deeply, or recursively") from None
    return content, places


def _yaml_reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark else problem


def _note_places(node: yaml.Node | None, path: Path, source: str, places: Places) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            place = f"{source}:{key.start_mark.line + 1}"
            if here in places:
                raise RecipeError(f"{place}: key {_dotted(here)} is given twice (first at {places[here]})")
            places[here] = place
            _note_places(value, here, source, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            places[(*path, index)] = f"{source}:{value.start_mark.line + 1}"


def place_of(path: Path, places: Places, source: str) -> str:
    """Return the place of a key, or of its section if it has none, as with YAML's ``<<``."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), source)


def split_override(override: str) -> tuple[tuple[str, ...], Any]:
    """Split ``key=value`` into the key's path and the value.

    Raises:
        RecipeError: not of that form.
    """
    key, separator, value = override.partition("=")
    path = tuple(key.strip().split("."))
    if not separator or not all(path):
        raise RecipeError(f"override {override!r} is not key=value", hint="for example: training.learning_rate=1e-4")
    try:
        return path, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        return path, value


def to_override(key: str, value: Any) -> str:
    """Format ``key=value`` for the command line from a value in a YAML file."""
    if _is_plain(value):
        return f"{key}={value}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    escaped = _NOT_IN_YAML.sub(lambda match: rf"\u{ord(match[0]):04x}", text)
    return f"{key}={escaped}"


def _is_plain(value: Any) -> bool:
    """Return whether a text is unchanged when parsed as a value on the command line."""
    if not isinstance(value, str):
        return False
    try:
        return bool(yaml.safe_load(value) == value)
    except (yaml.YAMLError, ValueError):
        return True


def _assign(content: dict[str, Any], path: tuple[str, ...], value: Any, override: str) -> None:
    for depth, key in enumerate(path[:-1]):
        inner = content.setdefault(key, {})
        if path[: depth + 1] == ("model",) and isinstance(inner, str):
            inner = content["model"] = {"path": inner}
        if inner is None:
            inner = content[key] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"override {override!r}: {_dotted(path[: depth + 1])} is not a section")
        content = inner
    content[path[-1]] = value


def readable(error: ValidationError, places: Places, source: str, root: type[BaseModel] = Recipe) -> RecipeError:
    """Convert the first of pydantic's errors into the user's terms.

    Args:
        root: the model that was validated.
    """
    errors = error.errors()
    # A misspelt key comes first: it is the reason why another one is missing.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    path: Path = tuple(first["loc"])
    place = place_of(path, places, source)
    name = _dotted(path)
    if first["type"] == "extra_forbidden":
        if name in REMOVED:
            return removed_key(name, place)
        known = _known_keys(path[:-1], root)
        elsewhere = _section_with(str(path[-1])) if root is Recipe else ""
        suggestion = elsewhere or did_you_mean(str(path[-1]), known)
        hint = f"did you mean {suggestion}?" if suggestion else f"known keys: {', '.join(known)}"
        return RecipeError(f"{place}: unknown key {name}", hint=hint)
    if first["type"] == "missing":
        hint = "see `tspin-mlx schema`" if root is Recipe else f"for example: {name}: quickstart"
        return RecipeError(f"{place}: the key {name} is required", hint=hint)
    message = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
    message = message[:1].lower() + message[1:]
    given = first["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return RecipeError(f"{place}: {name + ': ' if name else ''}{message}{shown}")


def removed_key(name: str, place: str) -> RecipeError:
    """Return the error about an option that earlier versions had."""
    hint = "delete it; docs/method.md describes what it did and what was measured"
    return RecipeError(f"{place}: {name} was removed", hint=hint)


def _known_keys(path: Path, root: type[BaseModel]) -> list[str]:
    section: Any = root
    for name in path:
        section = section.model_fields[str(name)].annotation
    return [field.alias or name for name, field in section.model_fields.items()]


def known_keys() -> list[str]:
    """List the dotted names of all keys of a recipe."""
    return list(Recipe.model_validate({"data": {"train": ""}}).settings)


def _section_with(key: str) -> str:
    """Return the dotted names of a key that was given in the wrong section."""
    return " or ".join(name for name in known_keys() if name.rsplit(".", 1)[-1] == key)


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
