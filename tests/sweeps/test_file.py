"""A sweep's file: which runs it makes, what they are called, and what is wrong with it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tspin_mlx.base.errors import RecipeError
from tspin_mlx.recipe.parse import split_override, to_override
from tspin_mlx.recipe.schema import SAFE_NAME
from tspin_mlx.sweeps.file import combinations, parse_sweep

WHOLE = """recipe: quickstart
set: {training.iterations: 2}
arms:
  plain: {objective.nll_weight: 0}
  anchored:
    objective.nll_weight: 10
    objective.alpha: 0.03
vary:
  training.learning_rate: [1e-5, 5e-5]
  run.seed: [0, 1, 2]
"""


def made(text, *given):
    return combinations(parse_sweep(text, "rates.yaml"), "rates", given)


def test_the_grid_is_arms_times_the_product_of_all_lists():
    found = made(WHOLE)
    assert len(found) == 2 * 2 * 3
    assert [run.name for run in found][:4] == [
        "rates-plain-learning_rate-1e-5-seed-0",
        "rates-plain-learning_rate-1e-5-seed-1",
        "rates-plain-learning_rate-1e-5-seed-2",
        "rates-plain-learning_rate-5e-5-seed-0",
    ]
    last = found[-1]
    assert (last.arm, last.varied) == ("anchored", {"training.learning_rate": "5e-5", "run.seed": 2})
    assert last.own == (
        "training.iterations=2",
        "objective.nll_weight=10",
        "objective.alpha=0.03",
        "training.learning_rate=5e-5",
        "run.seed=2",
    )


def test_without_arms_and_lists_there_is_one_run():
    (only,) = made("recipe: quickstart")
    assert (only.name, only.arm, only.varied, only.own) == ("rates", None, {}, ())


def test_an_arm_goes_before_what_is_set_for_all():
    (run,) = made("{recipe: r, set: {run.seed: 1, training.epochs: 2}, arms: {a: {run.seed: 7}}}")
    assert run.own == ("run.seed=7", "training.epochs=2")


def test_a_given_value_of_a_varied_key_picks_its_runs_and_keeps_their_names():
    all_names = [run.name for run in made(WHOLE)]
    picked = made(WHOLE, "run.seed=1", "training.epochs=3")
    assert [run.name for run in picked] == [name for name in all_names if name.endswith("seed-1")]
    assert {run.given for run in picked} == {("training.epochs=3",)}
    assert [run.name for run in made(WHOLE, "training.learning_rate=1e-5")] == all_names[:3] + all_names[6:9]


def test_keys_that_end_alike_are_named_in_full():
    (run,) = made("{recipe: r, vary: {warmup.epochs: [1], training.epochs: [2], run.seed: [0]}}")
    assert run.name == "rates-warmup.epochs-1-training.epochs-2-seed-0"


def test_values_that_a_name_cannot_hold_are_told_apart_by_a_digest():
    found = made("{recipe: r, vary: {lora.keys: [null, [self_attn.q_proj], [self_attn.q_proj, mlp.up_proj]]}}")
    names = [run.name for run in found]
    assert names[0] == "rates-keys-null"
    assert re.fullmatch(r"rates-keys-self_attn\.q_proj\.[0-9a-f]{4}", names[1])
    assert len(set(names)) == 3
    a, b = (run.name for run in made("{recipe: r, vary: {model.path: [org/name, org_name]}}"))
    assert (a, b) == (a, "rates-path-org_name") and a.startswith("rates-path-org_name.")


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=120))


@given(st.lists(values, min_size=1, max_size=4))
def test_any_value_makes_a_safe_name_that_is_its_own(found):
    from tspin_mlx.sweeps.file import SweepFile

    sweep = SweepFile.model_validate({"recipe": "r", "vary": {"data.system": found}})
    runs = combinations(sweep, "rates")
    for run in runs:
        assert re.fullmatch(SAFE_NAME, run.name) and len(run.name) <= 80
    texts = {to_override("k", value) for value in found}
    assert len({run.name.lower() for run in runs}) == len(texts)


@given(values)
@example("\x85")
@example(["\x7f", "\u2028"])
def test_a_value_is_the_same_when_it_is_read_again(value):
    path, read = split_override(to_override("data.system", value))
    assert path == ("data", "system")
    assert read == value or float(read) == value  # 1e-05 is a text in YAML, which pydantic takes for the number


def test_a_long_name_is_cut_and_stays_its_own():
    text = "{recipe: r, vary: {training.learning_rate: [1e-5], run.seed: [0, 1]}}"
    a, b = (run.name for run in combinations(parse_sweep(text, "s"), "x" * 79))
    assert len(a) == len(b) == 80 and a != b
    assert a == combinations(parse_sweep(text, "s"), "x" * 79)[0].name


def test_an_arm_may_be_built_on_another():
    text = "recipe: r\narms:\n  a: &a {run.seed: 1}\n  b: {<<: *a, training.epochs: 3}\n"
    assert [run.own for run in made(text)] == [("run.seed=1",), ("run.seed=1", "training.epochs=3")]
    with pytest.raises(RecipeError, match=r"^s:3: arms.a: run.seed is also varied"):
        parse_sweep(text + "vary: {run.seed: [1]}\n", "s")
    with pytest.raises(RecipeError, match=r"^s:3: arms.b: unknown key x"):
        parse_sweep("recipe: r\narms:\n  b: {<<: {x: 1}}\n", "s")


MISTAKES = {
    "no mapping": ("- recipe", "r.yaml: a sweep must be a mapping with the keys recipe, set, arms, vary"),
    "no recipe": ("vary: {run.seed: [1]}", "the key recipe is required"),
    "a key it does not have": ("recipe: r\nvaries: {}\n", "r.yaml:2: unknown key varies"),
    "the field's name": ("recipe: r\nsettings: {}\n", "r.yaml:2: unknown key settings"),
    "twice": ("recipe: r\nvary:\n  run.seed: [1]\n  run.seed: [2]\n", "r.yaml:4: key vary.run.seed is given twice"),
    "not YAML": ("recipe: [", "r.yaml: not valid YAML: line 1"),
    "a misspelt setting": ("recipe: r\nset:\n  training.epocs: 1\n", "r.yaml:3: set: unknown key training.epocs"),
    "a misspelt key of an arm": ("recipe: r\narms:\n  a:\n    x: 1\n", "r.yaml:4: arms.a: unknown key x"),
    "a section": ("recipe: r\nset: {training: {epochs: 1}}\n", "r.yaml:2: set: unknown key training"),
    "a list that is none": ("recipe: r\nvary:\n  run.seed: 3\n", "r.yaml:3: vary.run.seed"),
    "an empty list": ("recipe: r\nvary:\n  run.seed: []\n", "r.yaml:3: vary.run.seed"),
    "a value twice": ("recipe: r\nvary:\n  run.seed: [1, 2, 1]\n", "r.yaml:3: run.seed=1 is given twice"),
    "what the sweep decides": ("recipe: r\nset:\n  run.name: x\n", "r.yaml:3: set: the sweep itself sets run.name"),
    "varied and set": (
        "recipe: r\nset: {run.seed: 1}\nvary:\n  run.seed: [2]\n",
        "r.yaml:2: set: run.seed is also varied, at r.yaml:4",
    ),
    "varied and in an arm": (
        "recipe: r\narms: {a: {run.seed: 1}}\nvary: {run.seed: [2]}\n",
        "r.yaml:2: arms.a: run.seed is also varied",
    ),
    "arms in capitals": (
        "recipe: r\narms:\n  a: {}\n  A: {}\n",
        "r.yaml:4: arms: a and A differ only in case, which some disks ignore",
    ),
    "an arm's name": ("recipe: r\narms: {a b: {}}\n", "must start with a letter or digit"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_line_and_key(text, message):
    with pytest.raises(RecipeError) as caught:
        parse_sweep(text, "r.yaml")
    assert message in caught.value.message


@pytest.mark.parametrize("key", ["run.name", "run.folder"])
def test_keys_that_the_sweep_decides_cannot_be_given_beside_it(key):
    with pytest.raises(RecipeError, match=f"^override '{key}=x': the sweep itself sets {key}") as caught:
        made(WHOLE, f"{key}=x")
    assert "--folder" in caught.value.hint


def test_a_misspelt_key_is_recognised():
    with pytest.raises(RecipeError) as caught:
        parse_sweep("recipe: r\nset: {training.epocs: 1}\n", "r.yaml")
    assert caught.value.hint == "did you mean training.epochs?"


@pytest.mark.parametrize(
    ("override", "message"),
    [("objective.nll_weight=1", "objective.nll_weight is set by the arm plain"), ("seed", "is not key=value")],
)
def test_a_given_change_that_cannot_be_made(override, message):
    with pytest.raises(RecipeError, match=message):
        made(WHOLE, override)


def test_a_key_that_was_renamed_works_and_one_that_was_removed_is_named():
    sweep = parse_sweep("recipe: r\nvary: {training.memory: [fast, lean]}\n", "s.yaml")
    assert [combination.own for combination in combinations(sweep, "s")] == [
        ("training.memory=fast",),
        ("training.memory=lean",),
    ]
    with pytest.raises(RecipeError, match=r"s\.yaml:2: .*generation\.fresh_prompts was removed"):
        parse_sweep("recipe: r\narms: {fresh: {generation.fresh_prompts: true}}\n", "s.yaml")
