"""The ready recipes: all are valid, can be planned without a network, and keep what they say."""

import pytest

from tspin_mlx.catalog import find_recipe, packaged_recipes, parse_source
from tspin_mlx.data import load_examples
from tspin_mlx.errors import RecipeError
from tspin_mlx.launch import preview

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


def test_the_papers_recipe_has_the_papers_values():
    recipe = parse_source(find_recipe("ultrachat-zephyr-7b"))
    objective, training, data = recipe.objective, recipe.training, recipe.data
    assert (objective.alpha, objective.beta, training.iterations) == (1.0, 0.1, 5)
    assert (objective.nll_weight, objective.entropy_weight, objective.length_normalize) == (0, 0, False)
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
