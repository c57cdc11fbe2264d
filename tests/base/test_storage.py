"""Durable writes: a name that exists is complete, whatever happened before it got the name."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.base import storage
from tspin_mlx.base.errors import StorageError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Recorder(storage.Disk):
    """Notes what is done and to which name."""

    def __init__(self):
        self.done = []

    def __getattribute__(self, operation):
        found = super().__getattribute__(operation)
        if operation not in ("write", "append", "sync", "rename", "link", "truncate", "remove"):
            return found

        def noted(path, *more):
            self.done.append(f"{operation} {path.name}")
            return found(path, *more)

        return noted


class Failing(storage.Disk):
    """Fails at one operation."""

    def __init__(self, operation, error):
        self.operation, self.error = operation, error

    def __getattribute__(self, name):
        if name in ("operation", "error") or name != self.operation:
            return super().__getattribute__(name)

        def fail(*_):
            raise self.error

        return fail


@pytest.fixture
def recorder(monkeypatch):
    """What is done to the disk, in order."""
    disk = Recorder()
    monkeypatch.setattr(storage, "disk", disk)
    return disk.done


@pytest.fixture
def failing(monkeypatch):
    """Makes one operation fail, as on a full disk if nothing else is said."""

    def put(operation, error=None):
        error = error or OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(storage, "disk", Failing(operation, error))

    return put


# --- files


def test_a_file_is_written_with_its_folders_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "b.txt"
    storage.write_text(path, "é\r\n\u2028")
    assert path.read_bytes() == "é\r\n\u2028".encode()
    storage.write_text(path, "two")
    assert path.read_text() == "two"
    assert names(path.parent) == ["b.txt"]


def test_a_json_document_is_indented_and_keeps_its_characters(tmp_path):
    storage.write_json(tmp_path / "x.json", {"a": [1, None], "é\u2028": "\n"})
    assert (tmp_path / "x.json").read_bytes() == (
        '{\n  "a": [\n    1,\n    null\n  ],\n  "é\u2028": "\\n"\n}\n'.encode()
    )


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path, recorder):
    storage.write_text(tmp_path / "x.txt", "x")
    assert recorder == ["write .x.txt.partial", "sync .x.txt.partial", "rename .x.txt.partial", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("operation", ["write", "sync", "rename"])
@pytest.mark.parametrize("before", ["old", None])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, failing, operation, before):
    path = tmp_path / "x.txt"
    if before is not None:
        path.write_text(before)
    failing(operation)
    with pytest.raises(StorageError, match="No space left on device"):
        storage.write_text(path, "new")
    assert (path.read_text() if path.exists() else None) == before


def test_half_a_file_does_not_keep_the_space_that_the_next_try_needs(tmp_path):
    def half(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError):
        storage.write_file(tmp_path / "x", half)
    assert names(tmp_path) == []


def test_a_failure_that_mlx_reports_is_one_of_the_storage(tmp_path):
    def fail(path):
        raise RuntimeError("[save_safetensors] Failed to write to file")

    with pytest.raises(StorageError, match=r"\[save_safetensors\] Failed to write") as caught:
        storage.write_file(tmp_path / "x.safetensors", fail)
    assert caught.value.exit_code == 7


def test_a_failure_names_the_file_the_reason_and_the_free_space(tmp_path, failing, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 3_000_000, 3_000_000))
    failing("sync", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(StorageError) as caught:
        storage.write_text(tmp_path / "sub" / "x.txt", "x")
    path = tmp_path / "sub" / "x.txt"
    assert caught.value.message == f"{path} could not be written: Permission denied (3 MB free)"
    assert "no finished work is lost" in caught.value.hint


def test_a_text_that_cannot_be_written_leaves_the_old_content(tmp_path, recorder):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        storage.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert recorder == []


# --- what a kill leaves

# Ends the process, without any cleaning up, at the moment before a name is given.
CRASH = """
import os, sys
from pathlib import Path
from tspin_mlx.base import storage
storage.disk.rename = lambda source, target: os._exit(9)
folder = Path(sys.argv[1])
"""


def crash(folder, statements):
    done = subprocess.run([sys.executable, "-c", CRASH + statements, str(folder)])
    assert done.returncode == 9


def test_a_crash_before_the_name_is_given_leaves_the_old_content_and_can_be_repeated(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    crash(tmp_path, "storage.write_text(folder / 'x.txt', 'new, but longer')")
    assert path.read_text() == "old"
    storage.write_text(path, "again")
    assert path.read_text() == "again"
    assert names(tmp_path) == ["x.txt"]


def test_a_crash_while_a_folder_is_filled_leaves_no_name_and_can_be_repeated(tmp_path):
    crash(tmp_path, "with storage.new_folder(folder / 'run') as made: (made / 'half.txt').write_text('x')")
    assert len(names(tmp_path)) == 1
    with storage.new_folder(tmp_path / "run") as made:
        (made / "whole.txt").write_text("y")
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["whole.txt"]


def test_a_link_left_aside_by_a_crash_is_no_obstacle(tmp_path):
    (tmp_path / "a").mkdir()
    crash(tmp_path, "storage.point(folder / 'best', folder / 'a')")
    assert not (tmp_path / "best").exists()
    storage.point(tmp_path / "best", tmp_path / "a")
    assert (tmp_path / "best").is_dir()


# --- folders


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "runs" / "quick"
    with storage.new_folder(path) as made:
        (made / "x.txt").write_text("x")
        (made / "sub").mkdir()
        assert not path.exists()
    assert (path / "x.txt").read_text() == "x"
    assert (path / "sub").is_dir()
    assert names(tmp_path / "runs") == ["quick"]


def test_a_folders_files_are_synced_before_it_gets_its_name(tmp_path, recorder):
    with storage.new_folder(tmp_path / "run") as made:
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
    with pytest.raises(error), storage.new_folder(tmp_path / "run") as made:
        (made / "x.txt").write_text("x")
        raise error
    assert names(tmp_path) == []


@pytest.mark.parametrize("operation", ["sync", "rename"])
def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path, failing, operation):
    failing(operation)
    with pytest.raises(StorageError, match="No space left on device"), storage.new_folder(tmp_path / "run") as made:
        (made / "x.txt").write_text("x")
    assert names(tmp_path) == []


def test_a_full_folder_is_not_replaced_by_a_new_one(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("x")
    with pytest.raises(StorageError, match="exists already"), storage.new_folder(tmp_path / "run") as made:
        (made / "new").write_text("y")
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["old"]


def test_a_folder_filled_elsewhere_can_be_given_its_name(tmp_path, recorder):
    (tmp_path / ".s.partial").mkdir()
    (tmp_path / ".s.partial" / "shard-0000.jsonl").write_text("{}\n")
    storage.commit_folder(tmp_path / ".s.partial", tmp_path / "s")
    assert names(tmp_path) == ["s"]
    assert names(tmp_path / "s") == ["shard-0000.jsonl"]
    assert recorder == ["sync .s.partial", "rename .s.partial", f"sync {tmp_path.name}"]


# --- links, and removing


def test_a_link_is_replaced_and_survives_a_move_of_the_folder(tmp_path):
    run = tmp_path / "run"
    for name in ("one", "two"):
        (run / name / "adapter").mkdir(parents=True)
        (run / name / "adapter" / "x").write_text(name)
    storage.point(run / "best", run / "one" / "adapter")
    assert (run / "best" / "x").read_text() == "one"
    storage.point(run / "best", run / "two" / "adapter")
    assert (run / "best" / "x").read_text() == "two"
    assert (run / "best").readlink() == Path("two/adapter")
    assert names(run) == ["best", "one", "two"]
    assert (run / "one" / "adapter" / "x").read_text() == "one"
    moved = run.rename(tmp_path / "moved")
    assert (moved / "best" / "x").read_text() == "two"


def test_a_link_that_cannot_be_made_leaves_the_old_one(tmp_path, failing):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    storage.point(tmp_path / "best", tmp_path / "one")
    failing("link")
    with pytest.raises(StorageError):
        storage.point(tmp_path / "best", tmp_path / "two")
    assert (tmp_path / "best").readlink() == Path("one")


def test_removing_takes_files_folders_and_links_but_not_what_a_link_leads_to(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").write_text("x")
    for name in ("folder", "file", "link", "never there"):
        storage.remove(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["x"]


def test_what_cannot_be_removed_is_a_failure_of_the_storage(tmp_path, failing):
    failing("remove", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match="Input/output error"):
        storage.remove(tmp_path / "x")


# --- logs


@pytest.mark.parametrize(("sync", "done"), [(True, ["append x", "sync x"]), (False, ["append x"])])
def test_a_line_is_added_to_a_log_and_synced_if_asked(tmp_path, recorder, sync, done):
    (tmp_path / "x").write_bytes(b"old\n")
    storage.append_line(tmp_path / "x", {"a": "é\u2028\n"}, sync=sync)
    assert (tmp_path / "x").read_bytes() == 'old\n{"a": "é\u2028\\n"}\n'.encode()
    assert recorder == done


@pytest.mark.parametrize("written", [0, 3])
def test_a_line_that_does_not_fit_is_not_there_at_all(tmp_path, monkeypatch, written):
    path = tmp_path / "x"
    path.write_bytes(b"old\n")
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: real(descriptor, line[:written]))
    with pytest.raises(StorageError, match="No space left on device"):
        storage.append_line(path, {"a": 1}, sync=False)
    monkeypatch.undo()
    assert path.read_bytes() == b"old\n"
    storage.append_line(path, {"a": 2}, sync=False)
    assert path.read_bytes() == b'old\n{"a": 2}\n'


BLOCK = 1 << 16


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"a\n", 2),
        (b"a\nb", 2),
        (b"a\nb\n", 4),
        (b"abc", 0),
        (b"\n\n\nabc", 3),
        (b"x" * (BLOCK + 1), 0),
        (b"a\n" + b"x" * (BLOCK - 1), 2),
        (b"a\n" + b"x" * BLOCK, 2),
        (b"a\n" + b"x" * (3 * BLOCK), 2),
        (b"x" * BLOCK + b"\n", BLOCK + 1),
    ],
    ids=lambda value: None if isinstance(value, int) else f"{len(value)} bytes",
)
def test_a_torn_tail_is_cut_after_the_last_end_of_a_line(tmp_path, content, kept):
    path = tmp_path / "x"
    path.write_bytes(content)
    storage.cut_torn_tail(path)
    assert path.read_bytes() == content[:kept]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@given(st.lists(st.sampled_from([b"\n", b"ab", b"\xff", b"\0"])).map(b"".join), st.integers(1, 5))
def test_cutting_a_torn_tail_does_not_depend_on_how_it_is_read(folder, content, block):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(storage, "_BLOCK", block)
        (folder / "x").write_bytes(content)
        storage.cut_torn_tail(folder / "x")
    assert (folder / "x").read_bytes() == content[: content.rfind(b"\n") + 1]


def test_a_whole_log_is_not_touched_and_a_missing_one_not_made(tmp_path, recorder):
    (tmp_path / "x").write_bytes(b"a\n")
    storage.cut_torn_tail(tmp_path / "x")
    storage.cut_torn_tail(tmp_path / "none")
    assert recorder == []
    assert names(tmp_path) == ["x"]


def test_a_tail_that_cannot_be_cut_is_a_failure_of_the_storage(tmp_path, failing):
    (tmp_path / "x").write_bytes(b"a\nb")
    failing("truncate", OSError(errno.EROFS, "Read-only file system"))
    with pytest.raises(StorageError, match="Read-only file system"):
        storage.cut_torn_tail(tmp_path / "x")


# --- the medium


def test_on_macos_a_file_goes_to_the_medium_and_not_only_to_the_drive(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: synced.append(command))
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append("fsync"))
    (tmp_path / "x").write_text("x")
    storage.disk.sync(tmp_path / "x")
    storage.disk.sync(tmp_path)
    assert synced == [51, "fsync"]


def test_a_medium_that_cannot_be_told_to_is_synced_as_well_as_it_can(tmp_path, monkeypatch):
    def refuse(descriptor, command):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    synced = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append("fsync"))
    (tmp_path / "x").write_text("x")
    storage.disk.sync(tmp_path / "x")
    assert synced == ["fsync"]


@pytest.mark.parametrize(("free", "said"), [(5_000_000, None), (4_999_999, 5), (1_000_000, 1)])
def test_what_would_fill_the_disk_is_not_begun(tmp_path, monkeypatch, free, said):
    asked = []
    usage = namedtuple("usage", "total used free")

    def disk_usage(path):
        asked.append(path)
        return usage(10**9, 10**9 - free, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    run = tmp_path / "not" / "yet"
    if said is None:
        storage.check_space(run, 5_000_000)
    else:
        with pytest.raises(StorageError) as caught:
            storage.check_space(run, 5_000_000)
        assert caught.value.message == f"{run}: {said} MB are free, but the run may need 5 MB"
        assert "run.folder=FOLDER" in caught.value.hint
    assert asked == [tmp_path]


def test_two_processes_may_make_the_same_and_one_of_them_does(tmp_path):
    """The second does not touch what the first is filling, and what a killed third has left is tidied away."""
    crash(tmp_path, "with storage.new_folder(folder / 'run') as made: (made / 'half').write_text('x')")
    assert [name.startswith(".run.") for name in names(tmp_path)] == [True]
    theirs = tmp_path / f".run.{os.getppid()}.partial"
    theirs.mkdir()
    with storage.new_folder(tmp_path / "run") as made:
        (made / "whole").write_text("ours")
        assert made != theirs
    assert names(tmp_path) == [theirs.name, "run"]
    with pytest.raises(StorageError, match="exists already"), storage.new_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "whole").read_text() == "ours"
    assert names(tmp_path) == [theirs.name, "run"]


def test_a_file_in_the_way_of_a_folder_is_no_race(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(StorageError, match="x is not a folder"):
        storage.make_folder(tmp_path / "x")


def test_where_one_may_not_look_no_folder_is_made(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: refuse() if "locked" in path.parts else exists(path))
    with pytest.raises(StorageError, match="locked/a could not be written: Permission denied"):
        storage.make_folder(tmp_path / "locked" / "a")
