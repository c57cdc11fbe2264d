"""Rows and files that cannot be read: named with file, line and reason, or skipped and counted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import GOOD, section
from tests.support.small_runs import jsonl
from tspin_mlx.base.errors import DataError
from tspin_mlx.data.read import load_examples
from tspin_mlx.data.tokenize import BadExample, read_example

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
def test_files_that_are_not_utf8_are_refused(load, name, content):
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte \d+\)"):
        load(name, content)


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
