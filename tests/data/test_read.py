"""Reading examples: every accepted shape and format, and errors that name file, line and reason."""

import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import errors
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.base.errors import DataError, HubError, StorageError
from tspin_mlx.data.read import is_remote, load_examples
from tspin_mlx.data.tokenize import BadExample, read_example
from tspin_mlx.recipe.schema import DataSection

GOOD = {"prompt": "p", "response": "r"}


def section(**keys):
    return DataSection(**({"train": "t.jsonl"} | keys))


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def load(tmp_path):
    """Write a file and read it as the training data; the validation data is another, good file."""
    (tmp_path / "good.jsonl").write_text(jsonl([GOOD]))

    def read(name, content, **keys):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_examples(section(train=name, validation="good.jsonl", **keys), tmp_path, seed=0)

    return read


def prompts_of(part):
    return [located.example.messages[-1]["content"] for located in part]


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


BAD_LINES = {
    "not JSON": ("{'prompt': 'p'}", "not valid JSON: Expecting property name"),
    "cut off": ('{"prompt": "p"', "not valid JSON: Expecting ',' delimiter"),
    "two on a line": ('{"prompt": "p"} {}', "not valid JSON: Extra data at column 17"),
    "nested too deep": ("[" * 100_000, "not valid JSON: nested too deep"),
    "huge": ('"' + "x" * 10_000_000 + '"', "a line of 10,000,002 characters is not an example"),
    "a list": ('["p", "r"]', "a row must be an object with named fields, not list"),
    "a text": ('"p"', "a row must be an object with named fields, not str"),
    "null": ("null", "a row must be an object with named fields, not NoneType"),
    "empty answer": ('{"prompt": "p", "response": ""}', "'response' is empty"),
    "blank answer": ('{"prompt": "p", "response": " \\n\\t"}', "'response' is empty"),
    "empty prompt": ('{"prompt": "", "response": "r"}', "'prompt' is empty"),
    "NUL": ('{"prompt": "p\\u0000", "response": "r"}', "'prompt' contains a NUL character"),
    "lone surrogate": (
        '{"prompt": "p", "response": "\\ud83d"}',
        "'response' contains an unpaired surrogate",
    ),
    "number": ('{"prompt": "p", "response": 4}', "'response' must be text, not int"),
    "nothing": ('{"prompt": null, "response": "r"}', "'prompt' must be text, not NoneType"),
    "number as answer": ('{"prompt": "p", "response": "r", "answer": 4}', "'answer' must be text, not int"),
    "number as system": ('{"prompt": "p", "response": "r", "system": 4}', "'system' must be text, not int"),
    "empty object": ("{}", "'response' or 'completion', or 'instruction' with 'output'; has nothing"),
    "missing column": (
        '{"prompt": "p", "text": "r"}',
        "or 'instruction' with 'output'; has 'prompt', 'text'",
    ),
    "duplicate id": ('{"prompt": "p", "response": "r", "id": "n3"}', "id 'n3' was already used at t.jsonl:4"),
    "empty output": ('{"instruction": "i", "output": " "}', "'output' is empty"),
    "messages no list": ('{"messages": "p"}', "'messages' must be a list of {role, content}"),
    "messages of texts": ('{"messages": ["p", "r"]}', "'messages' must be a list of {role, content}"),
    "no messages": ('{"messages": []}', "'messages' has no assistant turn after a user turn"),
    "no assistant": (
        '{"messages": [{"role": "user", "content": "p"}]}',
        "'messages' has no assistant turn after a user turn",
    ),
    "assistant first": (
        '{"messages": [{"role": "assistant", "content": "r"}, {"role": "user", "content": "p"}]}',
        "'messages' has no assistant turn after a user turn",
    ),
    "unknown role": (
        '{"messages": [{"role": "human", "content": "p"}]}',
        "unknown role 'human' in 'messages'",
    ),
    "no role": ('{"messages": [{"content": "p"}]}', "unknown role None in 'messages'"),
    "no content": ('{"messages": [{"role": "user"}]}', "'content' must be text, not NoneType"),
    "content in parts": (
        '{"messages": [{"role": "user", "content": []}]}',
        "'content' must be text, not list",
    ),
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_row_is_named_with_file_line_and_reason_and_can_be_skipped(load, line, reason):
    lines = [json.dumps(GOOD | {"id": f"n{i}"}) for i in range(20)]
    lines[16] = line
    content = "\n".join(lines) + "\n"
    with pytest.raises(DataError) as caught:
        load("t.jsonl", content)
    assert caught.value.message.startswith("t.jsonl:17: ")
    assert reason in caught.value.message
    assert "data.skip_bad_rows" in caught.value.hint

    splits = load("t.jsonl", content, skip_bad_rows=True)
    assert splits.skipped == (caught.value.message,)
    assert len(splits.train) == 19


def test_all_rows_that_cannot_be_used_are_counted_and_the_first_five_named(load):
    lines = [json.dumps(GOOD | {"id": f"n{i}"}) for i in range(12)] + ["{}"] * 7
    with pytest.raises(DataError) as caught:
        load("t.jsonl", "\n".join(lines))
    first, *shown, last = caught.value.message.split("\n  ")
    assert first == "7 rows cannot be used:" and last == "and 2 more"
    assert [row.split(": ")[0] for row in shown] == [f"t.jsonl:{number}" for number in range(13, 18)]
    assert caught.value.hint.startswith("fix them, or skip bad rows with data.skip_bad_rows=true")


BAD_RECORDS = {
    "too few fields": ("p", "does not have as many fields as the header"),
    "too many fields": ("p,r,s", "does not have as many fields as the header"),
    "empty answer": ("p,", "'response' is empty"),
    "open quote": ('p,"r\n' + "p,r\n" * 9, "not valid CSV: unexpected end of data"),
    "text after a quote": ('p,"r"s', "not valid CSV: ',' expected after '\"'"),
    "huge field": ("p," + "x" * 200_000, "not valid CSV: field larger than field limit"),
}


@pytest.mark.parametrize(("row", "reason"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_bad_csv_row_is_named_with_file_line_and_reason(load, row, reason):
    content = "prompt,response\n" + "p,r\n" * 15 + row
    with pytest.raises(DataError) as caught:
        load("t.csv", content)
    assert caught.value.message.startswith(f"t.csv:17: {reason}")


def test_a_bad_row_of_a_json_list_is_named_by_its_number(load):
    with pytest.raises(DataError, match=r"^t\.json: row 17: 'response' is empty$"):
        load("t.json", json.dumps([GOOD] * 16 + [GOOD | {"response": ""}] + [GOOD] * 3))


def test_skipped_rows_of_all_files_are_counted(tmp_path):
    for name in ("t", "v", "x"):
        (tmp_path / f"{name}.jsonl").write_text(jsonl([GOOD, {}, []]))
    data = section(validation="v.jsonl", test="x.jsonl", skip_bad_rows=True)
    splits = load_examples(data, tmp_path, seed=0)
    assert splits.counts == {"train": 1, "validation": 1, "test": 1}
    places = [reason.split(": ")[0] for reason in splits.skipped]
    assert places == ["t.jsonl:2", "t.jsonl:3", "v.jsonl:2", "v.jsonl:3", "x.jsonl:2", "x.jsonl:3"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", "", "t.jsonl: no usable row"),
        ("t.jsonl", "\n\n", "t.jsonl: no usable row"),
        ("t.csv", "prompt,response\n", "t.csv: no usable row"),
        ("t.json", "[]", "t.json: no usable row"),
        ("t.json", "{}", "t.json: must be a list of rows"),
        ("t.json", "[1", "t.json: not valid JSON: Expecting ',' delimiter"),
        ("t.txt", "p", "t.txt: unknown file type; known: .jsonl, .json, .csv, .parquet"),
        ("t", "p", "t: unknown file type"),
    ],
)
def test_a_file_without_rows_or_of_another_kind_is_refused(load, name, content, message):
    with pytest.raises(DataError) as caught:
        load(name, content)
    assert caught.value.message.startswith(message)


def test_skipping_every_row_leaves_nothing_to_train_on(load):
    with pytest.raises(DataError, match=r"t\.jsonl: no usable row"):
        load("t.jsonl", "{}\n", skip_bad_rows=True)


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.csv"])
@pytest.mark.parametrize("content", [b"{}\n\xff", "é".encode("latin-1"), "p".encode("utf-16")])
def test_what_is_not_utf8_is_refused(load, name, content):
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte \d+\)"):
        load(name, content)


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
def test_what_keeps_a_dataset_from_coming_is_told_apart(monkeypatch, raised, kind, said):
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


# Rows as far from good ones as they can be while still looking like them, and anything at all.
near_rows = st.dictionaries(
    st.sampled_from(["prompt", "response", "messages", "instruction", "input", "output", "system", "id", "x"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["role", "content", "user"]), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("any")


def read_or_refuse(folder, name, content):
    (folder / name).write_bytes(content)
    try:
        return load_examples(section(train=name, validation=name), folder, seed=0).train
    except DataError as error:
        assert name in error.message
        return None


@given(st.binary())
@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.csv"])
def test_any_bytes_are_read_or_refused_in_words(folder, name, content):
    read_or_refuse(folder, name, content)


@given(st.lists(near_rows, min_size=1, max_size=3))
def test_any_rows_are_read_or_refused_in_words(folder, rows):
    train = read_or_refuse(folder, "t.jsonl", jsonl(rows).encode())
    for located in train or ():
        assert located.example.response.strip()
        assert located.example.messages[-1]["content"].strip()


def test_an_example_that_is_no_row_at_all_is_a_bad_example():
    with pytest.raises(BadExample):
        read_example(3, section())
