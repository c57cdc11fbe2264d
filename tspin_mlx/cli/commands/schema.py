"""``schema``: the JSON Schema of recipes."""

from __future__ import annotations

from ..output import print_json


def schema() -> None:
    """Print the JSON Schema of recipes, with every key's meaning.

    Example: tspin-mlx schema > recipe.schema.json
    """
    from ...recipe.schema import Recipe

    print_json(Recipe.model_json_schema())
