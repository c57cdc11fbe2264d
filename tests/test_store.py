"""Durable writes: a name that exists is complete, whatever happened before it got the name."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.runs import store


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk(monkeypatch):
    """Everything can be written and nothing synced."""

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_sync", refuse)


def test_a_file_is_written_with_its_folders_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "b.txt"
    store.write_text(path, "é\r\n\u2028")
    assert path.read_bytes() == "é\r\n\u2028".encode()
    store.write_text(path, "two")
    assert path.read_text() == "two"
    assert names(path.parent) == ["b.txt"]


def test_json_is_itself_again(tmp_path):
    content = {"a": [1, 2.5, None, True], "é\u2028": {"b": "\n\0"}}
    store.write_json(tmp_path / "x.json", content)
    assert store.read_json(tmp_path / "x.json") == content
    assert (tmp_path / "x.json").read_text(encoding="utf-8").startswith('{\n  "a": [')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none())))
def test_rows_are_themselves_again(folder, rows):
    store.write_jsonl(folder / "x.jsonl", rows)
    assert store.read_jsonl(folder / "x.jsonl") == rows


def test_line_separators_in_texts_do_not_end_a_row(tmp_path):
    rows = [{"text": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\ni"}, {"text": "next"}]
    store.write_jsonl(tmp_path / "x.jsonl", rows)
    assert store.read_jsonl(tmp_path / "x.jsonl") == rows
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 2


def test_no_rows_are_an_empty_file(tmp_path):
    store.write_jsonl(tmp_path / "x.jsonl", [])
    assert (tmp_path / "x.jsonl").read_bytes() == b""
    assert store.read_jsonl(tmp_path / "x.jsonl") == []


def test_a_write_that_fails_leaves_the_old_content(tmp_path, full_disk):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"):
        store.write_text(path, "new")
    assert path.read_text() == "old"


def test_a_text_that_cannot_be_written_leaves_the_old_content(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        store.write_text(path, "new \ud800")
    assert path.read_text() == "old"


def test_a_first_write_that_fails_leaves_no_name(tmp_path, full_disk):
    with pytest.raises(OSError, match="No space"):
        store.write_json(tmp_path / "x.json", {})
    assert not (tmp_path / "x.json").exists()


# Ends the process, without any cleaning up, at the moment before a name is given.
CRASH = """
import os, sys
from pathlib import Path
from tspin_mlx.runs import store
store._commit = lambda aside, path: os._exit(9)
folder = Path(sys.argv[1])
"""


def crash(folder, statements):
    done = subprocess.run([sys.executable, "-c", CRASH + statements, str(folder)])
    assert done.returncode == 9


def test_a_crash_before_the_name_is_given_leaves_the_old_content_and_can_be_repeated(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    crash(tmp_path, "store.write_text(folder / 'x.txt', 'new, but longer')")
    assert path.read_text() == "old"
    store.write_text(path, "again")
    assert path.read_text() == "again"
    assert names(tmp_path) == ["x.txt"]


def test_a_crash_while_a_folder_is_filled_leaves_no_name_and_can_be_repeated(tmp_path):
    crash(tmp_path, "with store.new_folder(folder / 'run') as made: (made / 'half.txt').write_text('x')")
    assert not (tmp_path / "run").exists()
    with store.new_folder(tmp_path / "run") as made:
        (made / "whole.txt").write_text("y")
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["whole.txt"]


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "runs" / "quick"
    with store.new_folder(path) as made:
        (made / "x.txt").write_text("x")
        assert not path.exists()
    assert (path / "x.txt").read_text() == "x"
    assert names(tmp_path / "runs") == ["quick"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_within_a_new_folder_leaves_nothing(tmp_path, error):
    with pytest.raises(error), store.new_folder(tmp_path / "run") as made:
        (made / "x.txt").write_text("x")
        raise error
    assert names(tmp_path) == []


def test_a_folder_filled_elsewhere_can_be_given_its_name(tmp_path):
    store.write_jsonl(tmp_path / ".s.partial" / "shard-0000.jsonl", [{"a": 1}])
    store.commit_folder(tmp_path / ".s.partial", tmp_path / "s")
    assert names(tmp_path) == ["s"]
    assert names(tmp_path / "s") == ["shard-0000.jsonl"]


def test_a_link_is_replaced_and_survives_a_move_of_the_folder(tmp_path):
    run = tmp_path / "run"
    for name in ("one", "two"):
        (run / name / "adapter").mkdir(parents=True)
        (run / name / "adapter" / "x").write_text(name)
    store.point(run / "best", run / "one" / "adapter")
    assert (run / "best" / "x").read_text() == "one"
    store.point(run / "best", run / "two" / "adapter")
    assert (run / "best" / "x").read_text() == "two"
    assert (run / "best").readlink() == Path("two/adapter")
    assert names(run) == ["best", "one", "two"]
    assert (run / "one" / "adapter" / "x").read_text() == "one"
    moved = run.rename(tmp_path / "moved")
    assert (moved / "best" / "x").read_text() == "two"


def test_a_link_left_aside_by_a_crash_is_no_obstacle(tmp_path):
    (tmp_path / "a").mkdir()
    crash(tmp_path, "store.point(folder / 'best', folder / 'a')")
    assert not (tmp_path / "best").exists()
    store.point(tmp_path / "best", tmp_path / "a")
    assert (tmp_path / "best").is_dir()
