"""Recipes from YAML and overrides: defaults, short forms, and errors that name line and key."""

import pytest

from tspin_mlx.base.errors import RecipeError
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.schema import Recipe
from tspin_mlx.recipe.settings import flatten

DATA = "data: {train: t.jsonl}\n"


def parse(text, *overrides):
    return parse_recipe(text, "r.yaml", overrides)


def error_of(text, *overrides):
    with pytest.raises(RecipeError) as caught:
        parse(text, *overrides)
    return caught.value


def test_the_smallest_recipe_gets_the_papers_objective():
    recipe = parse(DATA)
    assert recipe.data.train == "t.jsonl"
    assert (recipe.objective.alpha, recipe.objective.beta) == (1.0, 0.1)
    assert recipe.training.iterations == 5
    assert recipe.warmup.epochs == 0
    options = recipe.objective
    assert (options.nll_weight, options.entropy_weight) == (0, 0)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse(DATA).training.epochs = 3


def sections(schema):
    return {"": schema, **schema["$defs"]}


def test_every_key_and_section_of_the_schema_is_described():
    undescribed = [
        f"{name}.{key}"
        for name, section in sections(Recipe.model_json_schema()).items()
        for key, field in section["properties"].items()
        if not field.get("description") and "$ref" not in field
    ]
    assert undescribed == []
    assert all(section["description"] for section in sections(Recipe.model_json_schema()).values())


def test_every_section_of_the_schema_refuses_unknown_keys():
    found = sections(Recipe.model_json_schema())
    assert [name for name, section in found.items() if section["additionalProperties"] is not False] == []


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("objective:\n  bta: 1\n", "r.yaml:3: unknown key objective.bta", "did you mean beta?"),
        ("trianing: {epochs: 1}\n", "r.yaml:2: unknown key trianing", "did you mean training?"),
        ("training:\n  beta: 1\n", "r.yaml:3: unknown key training.beta", "did you mean objective.beta?"),
        ("seed: 1\n", "r.yaml:2: unknown key seed", "did you mean run.seed?"),
        (
            "learning_rate: 1e-4\n",
            "r.yaml:2: unknown key learning_rate",
            "did you mean warmup.learning_rate or training.learning_rate?",
        ),
        (
            "objective: {zzz: 1}\n",
            "r.yaml:2: unknown key objective.zzz",
            "known keys: kind, alpha, beta, nll_weight, entropy_weight, contrast_tokens",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_a_suggestion(text, message, hint):
    error = error_of(DATA + text)
    assert (error.message, error.hint) == (message, hint)


def test_an_unknown_key_deep_inside_is_compared_to_the_keys_of_its_own_section():
    error = error_of("data:\n  train: x\n  columns:\n    promt: question\n")
    assert error.message == "r.yaml:4: unknown key data.columns.promt"
    assert error.hint == "did you mean prompt?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DATA + DATA, "r.yaml:2: key data is given twice (first at r.yaml:1)"),
        (
            "data:\n  train: a\n  system: b\n  train: c\n",
            "r.yaml:4: key data.train is given twice (first at r.yaml:2)",
        ),
    ],
)
def test_a_repeated_key_is_named_with_both_lines(text, message):
    assert error_of(text).message == message


def test_the_same_key_in_two_sections_is_no_repetition():
    recipe = parse(DATA + "warmup: {epochs: 1}\ntraining: {epochs: 3}\n")
    assert (recipe.warmup.epochs, recipe.training.epochs) == (1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epochs: 1}\n", "r.yaml: the key data is required"),
        ("\ndata: {validation: v.jsonl}\n", "r.yaml:2: the key data.train is required"),
    ],
)
def test_a_missing_key_is_named(text, message):
    assert error_of(text).message == message


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("training:\n  iterations: -1\n", "r.yaml:3: training.iterations: ", "(given: -1)"),
        ("training:\n  epochs: 0\n", "r.yaml:3: training.epochs: ", "(given: 0)"),
        ("training:\n  epochs: 1.5\n", "r.yaml:3: training.epochs: ", "(given: 1.5)"),
        ("training:\n  epochs: many\n", "r.yaml:3: training.epochs: ", "(given: 'many')"),
        ("training:\n\n  optimizer: sgd\n", "r.yaml:4: training.optimizer: ", "(given: 'sgd')"),
        ("training: {learning_rate: .inf}\n", "r.yaml:2: training.learning_rate: ", "(given: inf)"),
        ("training: {warmup_ratio: 1.1}\n", "r.yaml:2: training.warmup_ratio: ", "(given: 1.1)"),
        ("training: {max_grad_norm: 0}\n", "r.yaml:2: training.max_grad_norm: ", "(given: 0)"),
        ("objective: {alpha: 0}\n", "r.yaml:2: objective.alpha: ", "(given: 0)"),
        ("objective: {beta: -0.1}\n", "r.yaml:2: objective.beta: ", "(given: -0.1)"),
        ("generation: {top_p: 0}\n", "r.yaml:2: generation.top_p: ", "(given: 0)"),
        ("lora: {dropout: 1}\n", "r.yaml:2: lora.dropout: ", "(given: 1)"),
        ("run: {name: ../elsewhere}\n", "r.yaml:2: run.name: ", "(given: '../elsewhere')"),
        ("run: {name: .hidden}\n", "r.yaml:2: run.name: ", "(given: '.hidden')"),
        ("training:\n", "r.yaml:2: training: ", "(given: None)"),
        (
            "evaluation:\n  metrics:\n  - json_exact\n  - bleu\n",
            "r.yaml:5: evaluation.metrics.1: ",
            "(given: 'bleu')",
        ),
    ],
)
def test_a_bad_value_is_named_with_its_line_and_shown(text, start, end):
    message = error_of(DATA + text).message
    assert message.startswith(start)
    assert message.endswith(end)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training: {optimizer: adam, weight_decay: 0.1}",
            "r.yaml:2: training: weight_decay has no effect with adam; use adamw or lion, or set it to 0",
        ),
        (
            "evaluation: {metrics: [numeric], best: json_exact}",
            "r.yaml:2: evaluation: best is 'json_exact', which is not measured; choose one of: nll, numeric",
        ),
        (
            "evaluation: {metrics: [regex]}",
            "r.yaml:2: evaluation: the metric 'regex' and the key 'regex' must",
        ),
        ("evaluation: {regex: a+}", "r.yaml:2: evaluation: the metric 'regex' and the key 'regex' must"),
        (
            "training: {iterations: 0}",
            "r.yaml: nothing to do: training.iterations and warmup.epochs are both 0",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(text, message):
    assert error_of(DATA + text).message.startswith(message)


def test_a_template_needs_a_place_for_the_prompt():
    message = error_of("data:\n  train: x\n  template: 'Q:'\n").message
    assert message.startswith("r.yaml:3: data.template: must be 'chat', 'paper' or a text that contains {prompt}")


def test_warm_up_alone_is_something_to_do():
    recipe = parse(DATA + "warmup: {epochs: 1}\ntraining: {iterations: 0}\n")
    assert recipe.training.iterations == 0


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.learning_rate=1e-4", "training.learning_rate", 1e-4),
        ("training.learning_rate=0.25", "training.learning_rate", 0.25),
        ("training.epochs=7", "training.epochs", 7),
        ("guard.stop=true", "guard.stop", True),
        ("training.max_grad_norm=null", "training.max_grad_norm", None),
        ("training.max_grad_norm=", "training.max_grad_norm", None),
        ("evaluation.metrics=[json_valid, numeric]", "evaluation.metrics", ["json_valid", "numeric"]),
        ("data.columns.prompt=question", "data.columns.prompt", "question"),
        ("data.template=Q: {prompt} A:", "data.template", "Q: {prompt} A:"),
        ("data.system=a=b", "data.system", "a=b"),
        ("model=org/name", "model.path", "org/name"),
        (" run.seed =3", "run.seed", 3),
    ],
)
def test_an_override_replaces_one_key(override, key, value):
    before, after = parse(DATA).settings, parse(DATA, override).settings
    assert after == before | {key: value}
    assert before[key] != value


def test_the_last_of_two_overrides_counts_and_both_beat_the_text():
    recipe = parse(DATA + "run: {seed: 1}\n", "run.seed=2", "run.seed=3")
    assert recipe.run.seed == 3


def test_an_override_can_supply_a_key_that_the_text_lacks():
    assert parse("training: {epochs: 1}", "data.train=mine.jsonl").data.train == "mine.jsonl"


def test_a_model_can_be_given_as_its_name_and_refined_by_an_override():
    text = DATA + "model: org/name\n"
    assert parse(text).model.path == "org/name"
    refined = parse(text, "model.dtype=float32").model
    assert (refined.path, refined.dtype) == ("org/name", "float32")


def test_an_empty_section_can_be_filled_by_an_override():
    assert parse(DATA + "training:\n", "training.epochs=4").training.epochs == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "override 'training.epochs' is not key=value"),
        ("=3", "override '=3' is not key=value"),
        ("training..epochs=3", "override 'training..epochs=3' is not key=value"),
        ("data.train.limit=3", "override 'data.train.limit=3': data.train is not a section"),
        ("run.seed=-1", "override 'run.seed=-1': run.seed: input should be greater than or equal to 0"),
        ("objective.bta=1", "override 'objective.bta=1': unknown key objective.bta"),
        ("training.epochs=[1", "override 'training.epochs=[1': training.epochs: "),
    ],
)
def test_an_override_at_fault_is_named(override, message):
    assert error_of(DATA, override).message.startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [1", "r.yaml: not valid YAML: line 1: "),
        ("data:\n  train: x\n bad: y\n", "r.yaml: not valid YAML: line 3: "),
        ("data:\n\ttrain: x\n", "r.yaml: not valid YAML: line 2: "),
        ("data: {train: x}\n---\nmodel: y\n", "r.yaml: not valid YAML: line 2: "),
        ("model: *nothing\n", "r.yaml: not valid YAML: line 1: "),
        ("model: !!python/object:os.system x\n", "r.yaml: not valid YAML: line 1: "),
        ("model: 'a\0b'\n", "r.yaml: not valid YAML: "),
        ("[a]: 1\n", "r.yaml: not valid YAML: line 1: "),
        ("", "r.yaml: a recipe must be a mapping"),
        ("# nothing\n", "r.yaml: a recipe must be a mapping"),
        ("- data\n", "r.yaml: a recipe must be a mapping"),
        ("just text", "r.yaml: a recipe must be a mapping"),
    ],
)
def test_anything_but_a_yaml_mapping_is_refused_with_its_line(text, message):
    assert error_of(text).message.startswith(message)


def test_flatten_gives_plain_values_under_dotted_keys():
    flat = parse(DATA).settings
    assert flat["data.columns.prompt"] is None
    assert flat["training.epochs"] == 2
    assert flat["evaluation.metrics"] == []
    assert flatten({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a.b.c": 1, "a.d": 2, "e": 3}
