"""The ready recipes: all are valid, can be planned without a network, and keep what they say."""

import pytest

from tspin_mlx.base.errors import RecipeError, UsageError
from tspin_mlx.data.read import load_examples
from tspin_mlx.jobs.launch import preview
from tspin_mlx.recipe.catalog import find_recipe, packaged_recipes, parse_source

NAMES = [source.name for source in packaged_recipes()]


def test_the_promised_recipes_are_there():
    assert {"quickstart", "snips-json", "gsm8k", "ultrachat-zephyr-7b", "qwen3-0.6b-chat"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_what_it_teaches_and_plans(name, tmp_path):
    overrides = []
    if name in ("snips-json", "starter"):  # the data is the user's
        for part in ("train", "test"):
            (tmp_path / f"{part}.jsonl").write_text('{"prompt": "play a song", "response": "{}"}\n' * 400)
        overrides = [f"data.{part}={tmp_path / part}.jsonl" for part in ("train", "test")]
    source = find_recipe(name)
    recipe = parse_source(source, overrides)
    plan = preview(recipe, source).plan
    assert recipe.description
    assert plan.steps > 0
    trained = [phase for phase in plan.phases if phase.kind == "train"]
    assert len(trained) == recipe.training.iterations
    assert [phase.objective.beta for phase in trained] == [0.0] + [recipe.objective.beta] * (len(trained) - 1)


def preview_of(tmp_path, *overrides):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {train: hub:org/name:train, train_limit: 100}")
    source = find_recipe(str(recipe))
    return preview(parse_source(source, overrides), source)


def test_a_plan_without_the_dataset_takes_the_numbers_from_the_recipe(tmp_path):
    found = preview_of(tmp_path, "data.test=hub:org/name:test", "data.test_limit=7", "data.validation_size=5")
    assert found.assumed and found.plan.counts == {"train": 100, "validation": 5, "test": 7}
    assert preview_of(tmp_path).plan.counts["test"] == 0
    limits = ("data.train=hub:org/name:train", "data.train_limit=100", "data.test_limit=50", "data.validation_limit=4")
    assert preview_of(tmp_path, *limits, "data.validation_size=5").plan.counts == {
        "train": 100, "validation": 4, "test": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["data.train_limit=null"], "set data.train_limit"),
        (["data.test=hub:org/name:test", "data.validation=v.jsonl"], "set data.validation_limit and data.test_limit"),
        (["data.train=t.jsonl", "data.test=hub:org/name:test"], "set data.test_limit"),
    ],
)
def test_numbers_that_the_recipe_does_not_have_are_asked_for(tmp_path, overrides, hint):
    with pytest.raises(UsageError, match=r"^hub:org/name:\w+ is not downloaded for a plan") as caught:
        preview_of(tmp_path, *overrides)
    assert caught.value.hint == hint


def test_the_papers_recipe_has_the_papers_values():
    recipe = parse_source(find_recipe("ultrachat-zephyr-7b"))
    objective, training, data = recipe.objective, recipe.training, recipe.data
    assert (objective.alpha, objective.beta, training.iterations) == (1.0, 0.1, 5)
    assert (objective.nll_weight, objective.entropy_weight) == (0, 0)
    assert (training.optimizer, training.weight_decay, training.warmup_ratio) == ("rmsprop", 0, 0.1)
    assert (training.batch_size, data.max_tokens, data.template, data.turn) == (64, 2048, "paper", "first")
    assert data.train_limit == 50_000


def test_the_quickstart_uses_its_own_data():
    source = find_recipe("quickstart")
    recipe = parse_source(source)
    splits = load_examples(recipe.data, source.path.parent, recipe.run.seed)
    assert recipe.model.path == "smollm2-135m"
    assert splits.counts == {
        "train": recipe.data.train_limit,
        "validation": recipe.data.validation_limit,
        "test": recipe.data.test_limit,
    }
    prompts = [{located.example.messages[-1]["content"] for located in part} for part in (splits.train, splits.test)]
    assert not prompts[0] & prompts[1]


def test_a_misspelt_recipe_is_suggested():
    with pytest.raises(RecipeError) as error:
        find_recipe("quickstrat")
    assert error.value.hint == "did you mean quickstart?"
