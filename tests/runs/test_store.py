"""The files of a run: each with its digest in the manifest, and believed only if it still has it."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import DamagedError, StorageError
from tspin_mlx.runs.store import MANIFEST, Store

# echo -n x | sha256sum, and so on
SHA = {
    "": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "x": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
    "y": "a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa",
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def manifest(store):
    rows = [json.loads(line) for line in (store.root / "manifest.jsonl").read_text().splitlines()]
    return [(row["file"], row["sha256"]) for row in rows]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def adapter(store):
    """A store with a folder of two files, one of them in a subfolder."""
    with store.new_folder("adapter") as made:
        (made / "a").write_text("x")
        (made / "sub").mkdir()
        (made / "sub" / "b").write_text("y")
    return store


# --- writing and reading


def test_a_file_is_listed_with_its_digest(store):
    store.write_text("sub/x.txt", "x")
    assert (store.root / "sub/x.txt").read_text() == "x"
    assert manifest(store) == [("sub/x.txt", SHA["x"])]
    assert (store.root / "manifest.jsonl").read_text() == f'{{"file": "sub/x.txt", "sha256": "{SHA["x"]}"}}\n'


def test_a_digest_is_on_the_medium_before_the_file_is_touched(store, monkeypatch):
    done = []

    class Noting(filesystem.Disk):
        def append(self, path, line):
            done.append(f"append {path.name}")
            super().append(path, line)

        def write(self, path, fill):
            done.append(f"write {path.name}")
            super().write(path, fill)

        def sync(self, path):
            done.append(f"sync {path.name}")

        def rename(self, source, target):
            done.append(f"rename {target.name}")
            super().rename(source, target)

    monkeypatch.setattr(filesystem, "disk", Noting())
    store.write_text("x.txt", "x")
    assert done[:3] == ["append manifest.jsonl", "sync manifest.jsonl", "write .x.txt.partial"]
    done.clear()
    with store.new_folder("folder") as made:
        (made / "y").write_text("y")
    assert done[:2] == ["append manifest.jsonl", "sync manifest.jsonl"]
    assert "rename folder" in done[2:]


def test_json_is_itself_again(store):
    content = {"a": [1, 2.5, None, True], "é\u2028": {"b": "\n\0"}}
    store.write_json("x.json", content)
    assert store.read_json("x.json") == content
    assert (store.root / "x.json").read_text(encoding="utf-8").startswith('{\n  "a": [')


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("rows"))


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none())))
def test_rows_are_themselves_again(shared, rows):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(filesystem.disk, "sync", lambda path: None)  # a hundred times would take seconds
        shared.remove("manifest.jsonl")
        shared.write_jsonl("x.jsonl", rows)
    assert shared.read_jsonl("x.jsonl") == rows


def test_line_separators_in_texts_do_not_end_a_row(store):
    rows = [{"text": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\ni"}, {"text": "next"}]
    store.write_jsonl("x.jsonl", rows)
    assert store.read_jsonl("x.jsonl") == rows
    assert (store.root / "x.jsonl").read_bytes().count(b"\n") == 2


def test_no_rows_are_an_empty_file(store):
    store.write_jsonl("x.jsonl", [])
    assert (store.root / "x.jsonl").read_bytes() == b""
    assert store.read_jsonl("x.jsonl") == []
    assert manifest(store) == [("x.jsonl", SHA[""])]


def test_a_text_that_cannot_be_written_leaves_nothing(store):
    with pytest.raises(UnicodeEncodeError):
        store.write_text("x.txt", "\ud800")
    assert names(store.root) == []


def test_a_file_that_is_written_again_has_the_last_digest(store):
    store.write_text("x.json", "1")
    store.write_text("x.json", "2")
    assert len(manifest(store)) == 2
    assert store.read_json("x.json") == 2
    assert store.damaged("x.json") == []


# --- folders and links


def test_all_files_of_a_folder_are_listed_under_its_final_name(adapter):
    assert sorted(manifest(adapter)) == [("adapter/a", SHA["x"]), ("adapter/sub/b", SHA["y"])]
    assert names(adapter.root) == ["adapter", "manifest.jsonl"]


def test_a_folder_that_was_not_finished_is_not_listed(store):
    with pytest.raises(ValueError, match="stop"), store.new_folder("adapter") as made:
        (made / "a").write_text("x")
        raise ValueError("stop")
    assert names(store.root) == []


def test_a_folder_filled_by_the_store_keeps_the_digests_of_its_files_under_its_final_name(store):
    store.write_jsonl("it/.samples.partial/shard-0000.jsonl", [{"a": 1}])
    store.commit_folder("it/.samples.partial", "it/samples")
    assert names(store.root / "it") == ["samples"]
    assert store.read_jsonl("it/samples/shard-0000.jsonl") == [{"a": 1}]
    assert store.damaged("it/samples") == []


def test_a_link_within_the_run_can_be_moved_and_links_are_not_listed(adapter):
    adapter.point("best", "adapter")
    assert (adapter.root / "best" / "a").read_text() == "x"
    assert str((adapter.root / "best").readlink()) == "adapter"
    assert len(manifest(adapter)) == 2


def test_only_what_has_its_name_is_there(adapter):
    adapter.write_text("x.txt", "x")
    (adapter.root / ".y.txt.partial").write_text("y")
    assert [adapter.has(name) for name in ("adapter", "adapter/a", "x.txt", "y.txt")] == [True, True, True, False]
    adapter.remove("adapter")
    adapter.remove("x.txt")
    adapter.remove("x.txt")
    assert not adapter.has("adapter") and not adapter.has("x.txt")


# --- damage


@pytest.mark.parametrize("content", [b'{"a": 2}', b"", b'{"a": 1}\n', b'{"a": 1'])
def test_a_file_with_other_content_is_not_read(store, content):
    store.write_text("x.json", '{"a": 1}')
    (store.root / "x.json").write_bytes(content)
    for read in (store.read_json, store.read_jsonl):
        with pytest.raises(DamagedError) as caught:
            read("x.json")
        assert caught.value.message == f"{store.root / 'x.json'} has changed since it was written (sha256 differs)"
        assert "--fork" in caught.value.hint
    assert store.damaged("x.json") == ["x.json"]
    assert not store.is_intact("x.json")


def test_a_file_that_is_not_listed_is_not_read(store):
    store.write_text("x.json", "1")
    (store.root / "y.json").write_text("1")
    with pytest.raises(DamagedError, match="changed since it was written"):
        store.read_json("y.json")
    assert store.damaged("y.json") == ["y.json"]


def test_a_file_that_is_gone_is_missed(store):
    store.write_text("x.json", "1")
    (store.root / "x.json").unlink()
    with pytest.raises(DamagedError, match="cannot be read: No such file or directory"):
        store.read_json("x.json")
    assert store.damaged("x.json") == ["x.json"]
    assert not store.is_intact("x.json")


def test_an_untouched_folder_is_intact(adapter):
    assert adapter.damaged("adapter") == []
    assert adapter.is_intact("adapter")


def test_a_name_that_was_never_written_is_neither_damaged_nor_intact(adapter):
    assert adapter.damaged("other") == []
    assert not adapter.is_intact("other")


@pytest.mark.parametrize(
    ("name", "content", "damaged"),
    [
        ("a", "y", ["adapter/a"]),
        ("a", None, ["adapter/a"]),
        ("sub/b", "", ["adapter/sub/b"]),
        ("sub/new", "x", ["adapter/sub/new"]),
        (".DS_Store", "x", []),
        ("sub/.DS_Store", "x", []),
    ],
    ids=["changed", "gone", "emptied", "extra", "finder", "finder below"],
)
def test_damage_within_a_folder_is_named(adapter, name, content, damaged):
    path = adapter.root / "adapter" / name
    path.unlink() if content is None else path.write_text(content)
    assert adapter.damaged("adapter") == damaged
    assert adapter.is_intact("adapter") == (not damaged)


def test_a_folder_that_is_gone_misses_all_its_files(adapter):
    adapter.remove("adapter")
    assert adapter.damaged("adapter") == ["adapter/a", "adapter/sub/b"]
    assert not adapter.is_intact("adapter")


def test_names_that_begin_alike_are_told_apart(store):
    for name in ("step-1/a", "step-10/a", "step-1.json"):
        store.write_text(name, "x")
    (store.root / "step-10/a").write_text("y")
    (store.root / "step-1.json").write_text("y")
    assert store.damaged("step-1") == []
    assert store.damaged("step-10") == ["step-10/a"]


def test_files_of_the_finder_in_a_folder_may_change_later(store):
    store.write_text(".s.partial/shard-0000.jsonl", "x")
    (store.root / ".s.partial" / ".DS_Store").write_text("x")
    store.commit_folder(".s.partial", "s")
    (store.root / "s" / ".DS_Store").write_text("y")
    assert store.damaged("s") == []


# --- the manifest itself


def test_without_its_manifest_nothing_is_believed(store):
    store.write_text("x.json", "1")
    (store.root / "manifest.jsonl").unlink()
    for look in (store.read_json, store.damaged):
        with pytest.raises(DamagedError, match=r"manifest\.jsonl cannot be read: No such file"):
            look("x.json")


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"null", b'{"file": "x.json"}', b'{"file": "x', b"\xff", b'{"file": [], "sha256": ""}'],
)
def test_a_damaged_manifest_is_named_with_its_line(store, line):
    store.write_text("x.json", "1")
    path = store.root / "manifest.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DamagedError) as caught:
        store.read_json("x.json")
    assert caught.value.message == f"{path}:2 is damaged"


@pytest.mark.parametrize("torn", [b"{", b'{"file": "x.json", "sha256": "0"}', b"\xff"])
def test_a_last_line_without_its_end_does_not_count_and_is_cut_before_the_next(store, torn):
    store.write_text("x.json", "1")
    path = store.root / "manifest.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert store.read_json("x.json") == 1
    store.recover()
    assert path.read_bytes() == whole
    store.write_text("y.json", "2")
    assert (store.read_json("x.json"), store.read_json("y.json")) == (1, 2)


class Full(filesystem.Disk):
    """Nothing gets its name."""

    def rename(self, source, target):
        raise OSError(28, "No space left on device")


def test_a_crash_after_the_digest_leaves_a_line_too_many_and_can_be_repeated(store, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(filesystem, "disk", Full())
        with pytest.raises(StorageError):
            store.write_text("x.json", "1")
    assert not store.has("x.json")
    assert [name for name, _ in manifest(store)] == ["x.json"]
    store.write_text("x.json", "[2]")
    assert store.read_json("x.json") == [2]


def test_a_manifest_that_cannot_be_written_leaves_no_file(store, monkeypatch):
    def refuse(path, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filesystem.disk, "append", refuse)
    with pytest.raises(StorageError, match=r"manifest\.jsonl could not be written"):
        store.write_text("x.json", "1")
    with pytest.raises(StorageError), store.new_folder("folder") as made:
        (made / "a").write_text("x")
    assert names(store.root) == []


def test_digests_are_those_of_the_bytes(store):
    store.write_text("x.txt", "é\r\n")
    assert manifest(store) == [("x.txt", hashlib.sha256(b"\xc3\xa9\r\n").hexdigest())]


def test_only_new_lines_of_the_manifest_are_read(store, monkeypatch):
    parsed, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text) or loads(text))
    for i in range(20):
        store.write_json(f"{i}.json", i)
        assert store.read_json(f"{i}.json") == i
    assert len([text for text in parsed if isinstance(text, bytes)]) == 20  # lines of the manifest


def test_a_manifest_that_was_replaced_or_shortened_is_read_anew(store):
    store.write_json("a.json", 1)
    store.write_json("b.json", 2)
    path = store.root / MANIFEST
    first, second = path.read_bytes().splitlines(keepends=True)
    assert store.digests("b.json")
    path.write_bytes(first)
    assert not store.digests("b.json")
    path.unlink()
    path.write_bytes(first + second)
    assert store.digests("b.json")
