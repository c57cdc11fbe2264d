"""Odd input of every kind; each of these once gave a traceback or a wrong number."""

import json

import pytest

from tspin_mlx.base.errors import DataError, RecipeError, UsageError
from tspin_mlx.base.text import shorten
from tspin_mlx.data.read import load_examples
from tspin_mlx.data.tokenize import BadExample, read_example
from tspin_mlx.evaluation.metrics import json_exact, json_field_f1, json_valid
from tspin_mlx.recipe.lineage import lineage
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import make_plan
from tspin_mlx.recipe.schema import DataSection
from tspin_mlx.runs.event_log import EventLog, read_events
from tspin_mlx.runs.policies import choose
from tspin_mlx.runs.run import find_run
from tspin_mlx.runs.store import Store

DATA = "data: {train: t.jsonl}\n"
GOOD = {"prompt": "p", "response": "r"}
WARNING = '{"time": 1.5, "kind": "warning", "message": "é"}\n'.encode()
COUNTS = {"train": 4, "validation": 2, "test": 2}
LONGER = "evaluation.max_tokens=512"


def test_a_log_with_a_torn_line_can_be_continued(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(WARNING + WARNING[:20])
    EventLog(path).emit("warning", message="x")
    assert [event["message"] for event in read_events(path)] == ["é", "x"]


def test_a_line_torn_within_a_character_is_left_out(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(WARNING + WARNING[: WARNING.index("é".encode()) + 1])
    assert [event["message"] for event in read_events(path)] == ["é"]


def test_a_time_of_400_digits_ends_no_watching(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(WARNING.replace(b"1.5", b"9" * 400) + WARNING.replace(b"1.5", b'"1.5"') + WARNING)
    assert [event["time"] for event in read_events(path)] == [10**400 - 1, 1.5]


def test_a_run_of_nobodys_home_is_refused(tmp_path):
    with pytest.raises(UsageError):
        find_run("~nobody-of-this-name/run", tmp_path)


def test_longer_answers_in_the_evaluation_are_another_evaluation():
    plans = [make_plan(parse_recipe(DATA, "r.yaml", overrides), COUNTS) for overrides in ([], [LONGER])]
    targets = ("initial/eval.json", "result.json", "test.json")
    assert all(lineage(plans[0])[target] != lineage(plans[1])[target] for target in targets)


@pytest.mark.parametrize(
    "text",
    [
        "description: 2024-13-45\n" + DATA,
        "description: !!int abc\n" + DATA,
        "data: &d\n  train: x\n  columns: *d\n",
        "[" * 2000,
        DATA + "evaluation: {metrics: [regex], regex: '['}\n",
        DATA + "training: {iterations: yes}\n",
    ],
    ids=["date", "tag", "recursive", "deep", "regex", "bool as number"],
)
def test_recipe_refused_in_words(text):
    with pytest.raises(RecipeError):
        parse_recipe(text, "r.yaml")


def test_an_override_like_a_date_is_a_text():
    assert parse_recipe(DATA, "r.yaml", ["run.name=2024-13-45"]).run.name == "2024-13-45"


def test_an_exact_key_of_another_section_beats_a_similar_one():
    with pytest.raises(RecipeError) as caught:
        parse_recipe("data: {train: x, temperature: 1}", "r.yaml")
    assert caught.value.hint == "did you mean generation.temperature?"


def test_an_override_with_an_unknown_section_is_named():
    with pytest.raises(RecipeError) as caught:
        parse_recipe(DATA, "r.yaml", ["trainning.epochs=1"])
    assert caught.value.message.startswith("override 'trainning.epochs=1'")


def load(folder, name, content):
    (folder / name).write_text(content)
    return load_examples(DataSection(train=name, validation=name), folder, 0).train


def test_a_number_of_5000_digits_is_a_bad_row(tmp_path):
    with pytest.raises(DataError):
        load(tmp_path, "t.jsonl", '{"prompt": "p", "response": "r", "id": ' + "1" * 5000 + "}")


def test_an_id_with_half_a_surrogate_is_a_bad_row():
    with pytest.raises(BadExample):
        read_example(GOOD | {"id": "\ud800"}, DataSection(train="t"))


def test_empty_ids_are_no_ids(tmp_path):
    assert len(load(tmp_path, "t.csv", "prompt,response,id\na,b,\nc,d,\n")) == 2


def test_a_json_list_may_be_larger_than_a_line(tmp_path):
    assert len(load(tmp_path, "t.json", json.dumps([GOOD | {"prompt": "p" * 1000}] * 10_100))) == 10_100


def test_nul_in_a_file_name(tmp_path):
    with pytest.raises(DataError):
        load_examples(DataSection(train="a\0.jsonl"), tmp_path, 0)


def test_the_turn_before_the_answer_is_not_the_assistants():
    turns = [("user", "p"), ("assistant", "a"), ("assistant", "b")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    with pytest.raises(BadExample):
        read_example(row, DataSection(train="t"))


def test_a_system_prompt_is_not_a_template():
    from tspin_mlx.data.tokenize import _fill

    turns = ({"role": "system", "content": "say {prompt}"}, {"role": "user", "content": "Hi"})
    assert _fill("{system}|{prompt}", turns) == "say {prompt}|Hi"


@pytest.mark.parametrize("judge", [json_exact, json_field_f1])
def test_deep_output_is_judged(judge):
    assert judge("[" * 900 + "]" * 900, "{}") == 0


@pytest.mark.parametrize(("output", "answer"), [("[]", "{}"), ("{}", '{"a": []}'), ("[[[]]]", "{}")])
def test_empty_containers_are_contents(output, answer):
    assert json_field_f1(output, answer) < 1


def test_nan_is_not_json():
    assert json_valid('{"a": NaN}', "") == 0


def test_shorten_to_nothing():
    assert len(shorten("abcdef", 0)) == 0


def test_nan_is_never_the_best():
    assert choose({"initial": float("nan"), "iterations/000": 1.0}, lower=True) == "iterations/000"


def test_a_new_folder_may_hold_folders(tmp_path):
    with Store(tmp_path).new_folder("run") as made:
        (made / "sub").mkdir()
    assert (tmp_path / "run" / "sub").is_dir()
