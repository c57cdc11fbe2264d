"""Settings under dotted keys, and the keys of earlier versions."""

import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.base.errors import RecipeError
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.phase import TrainPhase, outline_from_row
from tspin_mlx.recipe.plan import make_plan, replan
from tspin_mlx.recipe.settings import Upgrade, flatten, nested, upgrade

DATA = "data: {train: t.jsonl}\n"
COUNTS = {"train": 8, "validation": 4, "test": 0}

LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
SECTIONS = st.dictionaries(st.text("abc", min_size=1), LEAVES, min_size=1)


@given(st.dictionaries(st.text("xyz", min_size=1), LEAVES | SECTIONS))
def test_nested_is_the_inverse_of_flatten(sections):
    assert nested(flatten(sections)) == sections


@pytest.mark.parametrize(("old", "new"), [("auto", "auto"), ("fast", False), ("lean", True)])
def test_a_renamed_key_gets_its_new_name_and_value(old, new):
    recipe = {"training": {"memory": old, "epochs": 2}}
    assert upgrade(recipe) == [Upgrade("training.memory", "training.grad_checkpoint")]
    assert recipe == {"training": {"epochs": 2, "grad_checkpoint": new}}
    assert upgrade(recipe) == []


def test_a_removed_key_is_dropped_where_it_had_no_effect():
    recipe = {"generation": {"fresh_prompts": False, "mix_previous": True}}
    assert upgrade(recipe) == [Upgrade("generation.fresh_prompts", None)]
    assert recipe == {"generation": {"mix_previous": True}}


@pytest.mark.parametrize("recipe", [{}, {"training": None}, {"training": "x"}, {"training": {"memory": ["fast"]}}])
def test_anything_but_a_recipe_is_left_for_the_schema_to_refuse(recipe):
    before = json.dumps(recipe)
    assert upgrade(recipe) == [] and json.dumps(recipe) == before


def test_an_old_key_in_a_file_works_with_a_hint_that_names_its_line():
    with pytest.warns(FutureWarning, match=r"r\.yaml:3: training\.memory .* renamed to training\.grad_checkpoint"):
        recipe = parse_recipe(DATA + "training:\n  memory: lean\n", "r.yaml")
    assert recipe.training.grad_checkpoint is True


def test_an_old_key_on_the_command_line_works_with_a_hint():
    with pytest.warns(FutureWarning, match=r"override 'training\.memory=fast': training\.memory has been renamed"):
        assert parse_recipe(DATA, "r.yaml", ["training.memory=fast"]).training.grad_checkpoint is False


def test_an_error_in_an_old_key_names_the_line_where_it_stands():
    with pytest.raises(RecipeError, match=r"r\.yaml:3: unknown key training\.memory"):
        parse_recipe(DATA + "training:\n  memory: none\n", "r.yaml")


def test_a_removed_option_that_did_something_is_refused_by_name():
    with pytest.raises(RecipeError, match=r"r\.yaml:2: objective\.length_normalize was removed") as caught:
        parse_recipe(DATA + "objective: {length_normalize: true}\n", "r.yaml")
    assert "docs/method.md" in caught.value.hint


def as_format_1(row):
    """``plan.json`` as the first format had it: other names, options that were removed, an objective in ``refer``."""
    recipe = row["recipe"]
    recipe["training"]["memory"] = {"auto": "auto", False: "fast", True: "lean"}[
        recipe["training"].pop("grad_checkpoint")
    ]
    recipe["objective"]["length_normalize"] = False
    recipe["generation"] |= {"fresh_prompts": False, "mix_previous": False}
    for phase in row["phases"]:
        train = phase.pop("train", None)
        if train:
            train["memory"] = {"auto": "auto", False: "fast", True: "lean"}[train.pop("grad_checkpoint")]
            phase["objective"]["length_normalize"] = False
        phase |= {"updates": train, "objective": phase.get("objective")}
    return row


@pytest.mark.parametrize(
    "overrides", [(), ("training.grad_checkpoint=true", "warmup.epochs=1"), ("objective.kind=spin",)]
)
def test_a_plan_of_format_1_is_the_plan_that_this_version_makes(overrides):
    plan = make_plan(parse_recipe(DATA, "r.yaml", overrides), COUNTS, "m", {"train": "t"})
    outline = outline_from_row(as_format_1(json.loads(json.dumps(plan.to_row()))))
    assert outline.phases == plan.phases
    assert [isinstance(phase, TrainPhase) for phase in outline.phases] == [
        phase.kind in ("train", "warmup", "supervise") for phase in plan.phases
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replan(outline) == plan
