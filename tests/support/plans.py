"""Plans of a recipe that leaves everything at its default but what a test says."""

from __future__ import annotations

from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import make_plan

COUNTS = {"train": 100, "validation": 10, "test": 5}
DATA = {"train": "t", "validation": "v", "test": "x"}


def recipe(*overrides):
    return parse_recipe("data: {train: t.jsonl}", "r.yaml", overrides)


def plan(*overrides, counts=COUNTS, **more):
    return make_plan(recipe(*overrides), counts, **more)
