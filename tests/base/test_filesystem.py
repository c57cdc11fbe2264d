"""Durable writes: a name that exists is complete, whatever happened before it got the name."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.support.disks import crash, names
from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import StorageError


def test_a_file_is_written_with_its_folders_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "b.txt"
    filesystem.write_text(path, "é\r\n\u2028")
    assert path.read_bytes() == "é\r\n\u2028".encode()
    filesystem.write_text(path, "two")
    assert path.read_text() == "two"
    assert names(path.parent) == ["b.txt"]


def test_a_json_document_is_indented_and_keeps_its_characters(tmp_path):
    filesystem.write_json(tmp_path / "x.json", {"a": [1, None], "é\u2028": "\n"})
    assert (tmp_path / "x.json").read_bytes() == (
        '{\n  "a": [\n    1,\n    null\n  ],\n  "é\u2028": "\\n"\n}\n'.encode()
    )


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path, recorder):
    filesystem.write_text(tmp_path / "x.txt", "x")
    assert recorder == ["write .x.txt.partial", "sync .x.txt.partial", "rename .x.txt.partial", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("operation", ["write", "sync", "rename"])
@pytest.mark.parametrize("before", ["old", None])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, failing, operation, before):
    path = tmp_path / "x.txt"
    if before is not None:
        path.write_text(before)
    failing(operation)
    with pytest.raises(StorageError, match="No space left on device"):
        filesystem.write_text(path, "new")
    assert (path.read_text() if path.exists() else None) == before


def test_half_a_file_does_not_keep_the_space_that_the_next_try_needs(tmp_path):
    def half(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError):
        filesystem.write_file(tmp_path / "x", half)
    assert names(tmp_path) == []


def test_a_failure_that_mlx_reports_is_one_of_the_storage(tmp_path):
    def fail(path):
        raise RuntimeError("[save_safetensors] Failed to write to file")

    with pytest.raises(StorageError, match=r"\[save_safetensors\] Failed to write") as caught:
        filesystem.write_file(tmp_path / "x.safetensors", fail)
    assert caught.value.exit_code == 7


def test_a_failure_names_the_file_the_reason_and_the_free_space(tmp_path, failing, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 3_000_000, 3_000_000))
    failing("sync", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(StorageError) as caught:
        filesystem.write_text(tmp_path / "sub" / "x.txt", "x")
    path = tmp_path / "sub" / "x.txt"
    assert caught.value.message == f"{path} could not be written: Permission denied (3 MB free)"
    assert "no finished work is lost" in caught.value.hint


def test_a_text_that_cannot_be_written_leaves_the_old_content(tmp_path, recorder):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        filesystem.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert recorder == []


def test_a_crash_before_the_name_is_given_leaves_the_old_content_and_can_be_repeated(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    crash(tmp_path, "filesystem.write_text(folder / 'x.txt', 'new, but longer')")
    assert path.read_text() == "old"
    filesystem.write_text(path, "again")
    assert path.read_text() == "again"
    assert names(tmp_path) == ["x.txt"]


def test_a_crash_while_a_folder_is_filled_leaves_no_name_and_can_be_repeated(tmp_path):
    crash(tmp_path, "with filesystem.new_folder(folder / 'run') as made: (made / 'half.txt').write_text('x')")
    assert len(names(tmp_path)) == 1
    with filesystem.new_folder(tmp_path / "run") as made:
        (made / "whole.txt").write_text("y")
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["whole.txt"]


def test_a_link_left_aside_by_a_crash_is_no_obstacle(tmp_path):
    (tmp_path / "a").mkdir()
    crash(tmp_path, "filesystem.point(folder / 'best', folder / 'a')")
    assert not (tmp_path / "best").exists()
    filesystem.point(tmp_path / "best", tmp_path / "a")
    assert (tmp_path / "best").is_dir()


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "runs" / "quick"
    with filesystem.new_folder(path) as made:
        (made / "x.txt").write_text("x")
        (made / "sub").mkdir()
        assert not path.exists()
    assert (path / "x.txt").read_text() == "x"
    assert (path / "sub").is_dir()
    assert names(tmp_path / "runs") == ["quick"]


def test_a_folders_files_are_synced_before_it_gets_its_name(tmp_path, recorder):
    with filesystem.new_folder(tmp_path / "run") as made:
        (made / "sub").mkdir()
        (made / "sub" / "x").write_text("x")
    aside = f".run.{os.getpid()}.partial"
    assert recorder == [
        f"remove {aside}",
        "sync x",
        f"sync {aside}",
        f"rename {aside}",
        f"sync {tmp_path.name}",
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, RuntimeError])  # such as MLX's: memory
def test_an_error_within_a_new_folder_leaves_nothing(tmp_path, error):
    with pytest.raises(error), filesystem.new_folder(tmp_path / "run") as made:
        (made / "x.txt").write_text("x")
        raise error
    assert names(tmp_path) == []


@pytest.mark.parametrize("operation", ["sync", "rename"])
def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path, failing, operation):
    failing(operation)
    with pytest.raises(StorageError, match="No space left on device"), filesystem.new_folder(tmp_path / "run") as made:
        (made / "x.txt").write_text("x")
    assert names(tmp_path) == []


def test_a_full_folder_is_not_replaced_by_a_new_one(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("x")
    with pytest.raises(StorageError, match="exists already"), filesystem.new_folder(tmp_path / "run") as made:
        (made / "new").write_text("y")
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["old"]


def test_a_folder_filled_elsewhere_can_be_given_its_name(tmp_path, recorder):
    (tmp_path / ".s.partial").mkdir()
    (tmp_path / ".s.partial" / "shard-0000.jsonl").write_text("{}\n")
    filesystem.commit_folder(tmp_path / ".s.partial", tmp_path / "s")
    assert names(tmp_path) == ["s"]
    assert names(tmp_path / "s") == ["shard-0000.jsonl"]
    assert recorder == ["sync .s.partial", "rename .s.partial", f"sync {tmp_path.name}"]


def test_a_link_is_replaced_and_survives_a_move_of_the_folder(tmp_path):
    run = tmp_path / "run"
    for name in ("one", "two"):
        (run / name / "adapter").mkdir(parents=True)
        (run / name / "adapter" / "x").write_text(name)
    filesystem.point(run / "best", run / "one" / "adapter")
    assert (run / "best" / "x").read_text() == "one"
    filesystem.point(run / "best", run / "two" / "adapter")
    assert (run / "best" / "x").read_text() == "two"
    assert (run / "best").readlink() == Path("two/adapter")
    assert names(run) == ["best", "one", "two"]
    assert (run / "one" / "adapter" / "x").read_text() == "one"
    moved = run.rename(tmp_path / "moved")
    assert (moved / "best" / "x").read_text() == "two"


def test_a_link_that_cannot_be_made_leaves_the_old_one(tmp_path, failing):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    filesystem.point(tmp_path / "best", tmp_path / "one")
    failing("link")
    with pytest.raises(StorageError):
        filesystem.point(tmp_path / "best", tmp_path / "two")
    assert (tmp_path / "best").readlink() == Path("one")


def test_removing_takes_files_folders_and_links_but_not_what_a_link_leads_to(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").write_text("x")
    for name in ("folder", "file", "link", "never there"):
        filesystem.remove(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["x"]


def test_a_removal_that_fails_is_a_failure_of_the_storage(tmp_path, failing):
    failing("remove", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match="Input/output error"):
        filesystem.remove(tmp_path / "x")


def test_two_processes_may_make_the_same_and_one_of_them_does(tmp_path):
    """The second does not touch what the first is filling, and what a killed third has left is tidied away."""
    crash(tmp_path, "with filesystem.new_folder(folder / 'run') as made: (made / 'half').write_text('x')")
    assert [name.startswith(".run.") for name in names(tmp_path)] == [True]
    theirs = tmp_path / f".run.{os.getppid()}.partial"
    theirs.mkdir()
    with filesystem.new_folder(tmp_path / "run") as made:
        (made / "whole").write_text("ours")
        assert made != theirs
    assert names(tmp_path) == [theirs.name, "run"]
    with pytest.raises(StorageError, match="exists already"), filesystem.new_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "whole").read_text() == "ours"
    assert names(tmp_path) == [theirs.name, "run"]


def test_a_file_in_the_way_of_a_folder_is_no_race(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(StorageError, match="x is not a folder"):
        filesystem.make_folder(tmp_path / "x")


def test_no_folder_is_made_where_one_may_not_look(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: refuse() if "locked" in path.parts else exists(path))
    with pytest.raises(StorageError, match="locked/a could not be written: Permission denied"):
        filesystem.make_folder(tmp_path / "locked" / "a")
