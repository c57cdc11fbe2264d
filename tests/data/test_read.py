"""Reading examples: every accepted shape and format, from files and from the Hub."""

import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import errors

from tests.support.examples import GOOD, assistant, prompts_of, section, system, user
from tests.support.small_runs import jsonl
from tspin_mlx.base.errors import DataError, HubError, StorageError
from tspin_mlx.data.read import is_remote, load_examples
from tspin_mlx.data.tokenize import read_example
from tspin_mlx.recipe.schema import DataSection

SHAPES = {
    "prompt and response": ({"prompt": "p", "response": "r"}, {}, [user("p")], "r"),
    "prompt and completion": ({"prompt": "p", "completion": "c"}, {}, [user("p")], "c"),
    "response before completion": ({"prompt": "p", "completion": "c", "response": "r"}, {}, [user("p")], "r"),
    "alpaca": ({"instruction": "i", "output": "o"}, {}, [user("i")], "o"),
    "alpaca with input": ({"instruction": "i", "input": "x", "output": "o"}, {}, [user("i\n\nx")], "o"),
    "alpaca with empty input": ({"instruction": "i", "input": "", "output": "o"}, {}, [user("i")], "o"),
    "alpaca without input": ({"instruction": "i", "input": None, "output": "o"}, {}, [user("i")], "o"),
    "one turn": ({"messages": [user("p"), assistant("r")]}, {}, [user("p")], "r"),
    "last of two turns": (
        {"messages": [user("p"), assistant("r"), user("q"), assistant("s")]},
        {},
        [user("p"), assistant("r"), user("q")],
        "s",
    ),
    "first of two turns": (
        {"messages": [user("p"), assistant("r"), user("q"), assistant("s")]},
        {"turn": "first"},
        [user("p")],
        "r",
    ),
    "a turn after the answer is left out": (
        {"messages": [user("p"), assistant("r"), user("thanks")]},
        {},
        [user("p")],
        "r",
    ),
    "a greeting is no answer": (
        {"messages": [assistant("hello"), user("p"), assistant("r")]},
        {"turn": "first"},
        [assistant("hello"), user("p")],
        "r",
    ),
    "tool turn": (
        {"messages": [user("p"), {"role": "tool", "content": "5"}, assistant("r")]},
        {},
        [user("p"), {"role": "tool", "content": "5"}],
        "r",
    ),
    "system turn": (
        {"messages": [system("s"), user("p"), assistant("r")]},
        {},
        [system("s"), user("p")],
        "r",
    ),
    "own system turn wins": (
        {"messages": [system("s"), user("p"), assistant("r")], "system": "t"},
        {"system": "u"},
        [system("s"), user("p")],
        "r",
    ),
    "system column": (GOOD | {"system": "s"}, {}, [system("s"), user("p")], "r"),
    "system of the recipe": (GOOD, {"system": "u"}, [system("u"), user("p")], "r"),
    "own system column wins": (GOOD | {"system": "s"}, {"system": "u"}, [system("s"), user("p")], "r"),
    "empty system column": (GOOD | {"system": ""}, {"system": "u"}, [system("u"), user("p")], "r"),
    "named columns": (
        {"question": "p", "reply": "r", "role": "s", "prompt": "x", "response": "y"},
        {"columns": {"prompt": "question", "response": "reply", "system": "role"}},
        [system("s"), user("p")],
        "r",
    ),
    "a named prompt column beats messages": (
        {"question": "p", "response": "r", "messages": []},
        {"columns": {"prompt": "question"}},
        [user("p")],
        "r",
    ),
    "only the response column named": (
        {"prompt": "p", "reply": "r"},
        {"columns": {"response": "reply"}},
        [user("p")],
        "r",
    ),
    "space is kept": ({"prompt": " p\n", "response": "\tr "}, {}, [user(" p\n")], "\tr "),
}


@pytest.mark.parametrize(("row", "keys", "messages", "response"), SHAPES.values(), ids=SHAPES)
def test_every_usual_shape_is_recognised(row, keys, messages, response):
    example = read_example(row, section(**keys))
    assert list(example.messages) == messages
    assert example.response == response


@pytest.mark.parametrize(
    ("row", "keys", "answer"),
    [
        (GOOD, {}, "r"),
        (GOOD | {"answer": "42"}, {}, "42"),
        (GOOD | {"answer": None}, {}, "r"),
        (GOOD | {"final": "42", "answer": "x"}, {"columns": {"answer": "final"}}, "42"),
    ],
)
def test_metrics_compare_to_the_answer_column_else_to_the_response(row, keys, answer):
    assert read_example(row, section(**keys)).answer == answer


@pytest.mark.parametrize(("given_id", "expected"), [("a-1", "a-1"), (7, "7"), (0, "0"), (None, "t.jsonl:1")])
def test_a_row_is_known_by_its_own_id_else_by_its_place(load, given_id, expected):
    splits = load("t.jsonl", jsonl([GOOD | {"id": given_id}]))
    assert [located.id for located in splits.train] == [expected]


CSV = 'prompt,response\n"p, q","r\ns"\np2,"say ""hi"""\n'


FORMATS = {
    "t.jsonl": '{"prompt": "p, q", "response": "r\\ns"}\n{"prompt": "p2", "response": "say \\"hi\\""}\n',
    "t.json": '[{"prompt": "p, q", "response": "r\\ns"},\n {"prompt": "p2", "response": "say \\"hi\\""}]\n',
    "t.csv": CSV,
}


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_examples(load, name, bom):
    train = load(name, bom + FORMATS[name].encode()).train
    assert prompts_of(train) == ["p, q", "p2"]
    assert [located.example.response for located in train] == ["r\ns", 'say "hi"']


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", '\r\n{"prompt": "p", "response": "r"}\r\n\r\n{"prompt": "q", "response": "r"}'),
        ("t.csv", "prompt,response\r\np,r\r\n\r\nq,r\r\n"),
        ("t.csv", "prompt,response\rp,r\rq,r"),
    ],
)
def test_other_line_ends_blank_lines_and_a_missing_last_one_do_not_matter(load, name, content):
    train = load(name, content).train
    assert prompts_of(train) == ["p", "q"]
    assert [located.example.response for located in train] == ["r", "r"]


def test_unicode_line_separators_do_not_end_a_line(load):
    text = "a\u2028b\u2029c\x85d"
    content = json.dumps({"prompt": text, "response": "é"}, ensure_ascii=False)
    [located] = load("t.jsonl", content).train
    assert located.example.messages == (user(text),)
    assert located.example.response == "é"


def test_places_name_file_and_line_or_row(load):
    assert [x.place for x in load("t.jsonl", jsonl([GOOD]) + "\n" + jsonl([GOOD])).train] == [
        "t.jsonl:1",
        "t.jsonl:3",
    ]
    assert [x.place for x in load("t.json", json.dumps([GOOD, GOOD])).train] == [
        "t.json: row 1",
        "t.json: row 2",
    ]
    assert [x.place for x in load("t.csv", "prompt,response\np,r\nq,r\n").train] == ["t.csv:2", "t.csv:3"]


def test_parquet_is_read_with_nested_messages(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"messages": [user("p"), assistant("r")]}, {"messages": [user("q"), assistant("s")]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    splits = load_examples(section(train="t.parquet", validation="t.parquet"), tmp_path, seed=0)
    assert prompts_of(splits.train) == ["p", "q"]
    assert splits.train[1].place == "t.parquet: row 2"


def test_a_broken_or_missing_parquet_file_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"t\.parquet: not a Parquet file"):
        load_examples(section(train="t.parquet"), tmp_path, seed=0)
    with pytest.raises(DataError, match=r"u\.parquet: no such file"):
        load_examples(section(train="u.parquet"), tmp_path, seed=0)


def test_a_missing_file_is_named_with_its_folder(tmp_path):
    with pytest.raises(DataError) as caught:
        load_examples(section(train="sub/none.jsonl"), tmp_path, seed=0)
    assert caught.value.message == f"{tmp_path / 'sub/none.jsonl'}: no such file"
    assert caught.value.hint.startswith("paths in a recipe are relative to the recipe, on the command line")


def test_a_folder_is_no_data_file(tmp_path):
    (tmp_path / "t.jsonl").mkdir()
    with pytest.raises(DataError, match=r"t\.jsonl: cannot be read: "):
        load_examples(section(), tmp_path, seed=0)


def test_an_absolute_name_is_read_where_it_is(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text(jsonl([GOOD] * 20))
    data = section(train=str(file), validation=str(file))
    assert len(load_examples(data, tmp_path / "elsewhere", seed=0).train) == 20


def test_sources_on_the_hub_are_told_from_files():
    assert is_remote("hub:org/data:train")
    assert not is_remote("data/hub.jsonl")


@pytest.mark.parametrize(
    ("source", "asked"), [("hub:org/data:train", ["org/data"]), ("hub:org/data:main:train", ["org/data", "main"])]
)
def test_a_dataset_of_the_hub_is_read_like_a_file(monkeypatch, source, asked):
    rows = [{"prompt": f"say {i}", "response": "yes"} for i in range(4)]

    def load_dataset(*parts, split):
        assert (list(parts), split) == (asked, "train")
        return rows

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    found = load_examples(DataSection(train=source, validation_size=1), Path(), 0)
    assert {row.example.messages[-1]["content"] for row in (*found.train, *found.validation)} == {
        row["prompt"] for row in rows
    }
    assert {row.place for row in (*found.train, *found.validation)} == {f"{source} row {i}" for i in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (TimeoutError(), HubError, "dataset 'org/data' could not be fetched: TimeoutError"),
        (errors.HTTPError("no route"), HubError, "the connection to the Hub failed"),
        (ValueError("Unknown split\nmore"), HubError, "hub:org/data:train: Unknown split$"),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "No space left on device"),
    ],
)
def test_reasons_why_a_dataset_cannot_be_fetched_are_told_apart(monkeypatch, raised, kind, said):
    def load_dataset(*parts, split):
        raise raised

    class DatasetsError(Exception):
        pass

    exceptions = SimpleNamespace(DatasetsError=DatasetsError)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, exceptions=exceptions))
    with pytest.raises(kind, match=said):
        load_examples(DataSection(train="hub:org/data:train"), Path(), 0)


@pytest.mark.parametrize("source", ["hub:", "hub:org/data", "hub:org/data::train", "hub:a:b:c:d"])
def test_a_source_on_the_hub_needs_name_and_split(source, tmp_path):
    with pytest.raises(DataError, match="a Hub dataset is hub:ID:SPLIT or hub:ID:CONFIG:SPLIT"):
        load_examples(section(train=source), tmp_path, seed=0)
