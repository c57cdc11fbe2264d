"""Find recipe files: packaged ones by name, and the user's by path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base.errors import RecipeError
from ..base.paths import user_path
from ..base.text import suggest
from .parse import parse_recipe, to_override
from .schema import Recipe

_PACKAGED = Path(__file__).parents[1] / "recipes"
_DATA_KEYS = ("data.train", "data.validation", "data.test")


@dataclass(frozen=True)
class RecipeSource:
    """A recipe's text and its file.

    Attributes:
        name: file name without extension; the default name of its runs.
        path: the file; data files are relative to its folder.
        text: YAML.
    """

    name: str
    path: Path
    text: str


def packaged_recipes() -> list[RecipeSource]:
    """List the recipes that come with tspin-mlx, by name."""
    return [_read(path) for path in sorted(_PACKAGED.glob("*.yaml"))]


def find_recipe(name: str) -> RecipeSource:
    """Find a packaged recipe by name, or a file.

    Raises:
        RecipeError: neither exists; the most similar name is suggested.
    """
    path = user_path(name)
    if path.suffix in (".yaml", ".yml") or "/" in name:
        if not path.is_file():
            raise RecipeError(f"{name}: no such recipe file", hint="`tspin-mlx recipes ls` lists the ready ones")
        return _read(path)
    known = {source.name: source for source in packaged_recipes()}
    if name in known:
        return known[name]
    raise RecipeError(f"no recipe is called {name!r}", hint=suggest(name, known, f"available: {', '.join(known)}"))


def parse_source(source: RecipeSource, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Parse a recipe. Files in overrides are relative to the current folder, those in the recipe to the recipe."""
    return parse_recipe(source.text, source.path.name, [located(override, Path()) for override in overrides])


def located(override: str, folder: Path) -> str:
    """Make an override's file, if it names one, relative to ``folder``."""
    key, _, value = override.partition("=")
    if key.strip() not in _DATA_KEYS or value in ("", "null", "~") or value.startswith("hub:"):
        return override
    return to_override(key, str((folder / user_path(value)).absolute()))


def _read(path: Path) -> RecipeSource:
    try:
        return RecipeSource(path.stem, path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
