"""Logs: a line is there whole or not at all, and a torn one is cut before the next."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.disks import names
from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import StorageError


@pytest.mark.parametrize(("sync", "done"), [(True, ["append x", "sync x"]), (False, ["append x"])])
def test_a_line_is_added_to_a_log_and_synced_if_asked(tmp_path, recorder, sync, done):
    (tmp_path / "x").write_bytes(b"old\n")
    filesystem.append_line(tmp_path / "x", {"a": "é\u2028\n"}, sync=sync)
    assert (tmp_path / "x").read_bytes() == 'old\n{"a": "é\u2028\\n"}\n'.encode()
    assert recorder == done


@pytest.mark.parametrize("written", [0, 3])
def test_a_line_that_does_not_fit_is_not_there_at_all(tmp_path, monkeypatch, written):
    path = tmp_path / "x"
    path.write_bytes(b"old\n")
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: real(descriptor, line[:written]))
    with pytest.raises(StorageError, match="No space left on device"):
        filesystem.append_line(path, {"a": 1}, sync=False)
    monkeypatch.undo()
    assert path.read_bytes() == b"old\n"
    filesystem.append_line(path, {"a": 2}, sync=False)
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
    filesystem.cut_torn_tail(path)
    assert path.read_bytes() == content[:kept]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@given(st.lists(st.sampled_from([b"\n", b"ab", b"\xff", b"\0"])).map(b"".join), st.integers(1, 5))
def test_cutting_a_torn_tail_does_not_depend_on_how_it_is_read(folder, content, block):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(filesystem, "_BLOCK", block)
        (folder / "x").write_bytes(content)
        filesystem.cut_torn_tail(folder / "x")
    assert (folder / "x").read_bytes() == content[: content.rfind(b"\n") + 1]


def test_a_whole_log_is_not_touched_and_a_missing_one_not_made(tmp_path, recorder):
    (tmp_path / "x").write_bytes(b"a\n")
    filesystem.cut_torn_tail(tmp_path / "x")
    filesystem.cut_torn_tail(tmp_path / "none")
    assert recorder == []
    assert names(tmp_path) == ["x"]


def test_a_tail_that_cannot_be_cut_is_a_failure_of_the_storage(tmp_path, failing):
    (tmp_path / "x").write_bytes(b"a\nb")
    failing("truncate", OSError(errno.EROFS, "Read-only file system"))
    with pytest.raises(StorageError, match="Read-only file system"):
        filesystem.cut_torn_tail(tmp_path / "x")
