"""One writer per run: the lock is held exactly as long as a process that has it lives."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tspin_mlx.base.errors import BusyError, StorageError
from tspin_mlx.runs import lock
from tspin_mlx.runs.lock import RunLock, busy, holder, is_held

HOLDER = """
import sys
from pathlib import Path
from tspin_mlx.runs.lock import RunLock
lock = RunLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of ``tmp_path`` until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def hasty(monkeypatch):
    """Nobody waits for a lock."""
    monkeypatch.setattr(lock, "_PATIENCE_S", 0)


def test_a_run_that_nobody_works_on_is_free(tmp_path):
    assert not is_held(tmp_path)
    assert holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing
    assert not is_held(tmp_path / "no such run")


def test_whoever_takes_the_lock_has_it_until_it_is_closed(tmp_path):
    before = time.time()
    held = RunLock.acquire(tmp_path)
    assert is_held(tmp_path)
    found = holder(tmp_path)
    assert found["pid"] == os.getpid()
    assert before - 0.01 <= found["since"] <= time.time() + 0.01
    held.close()
    assert not is_held(tmp_path)
    assert holder(tmp_path) is None  # although its file still names the process
    RunLock.acquire(tmp_path).close()


def test_the_second_process_learns_who_was_first(tmp_path, other, hasty):
    with pytest.raises(BusyError) as caught:
        RunLock.acquire(tmp_path)
    error = caught.value
    assert error.message == f"the run {tmp_path.name!r} is in use by process {other.pid}"
    assert f"`tspin-mlx watch {tmp_path}`" in error.hint and f"`tspin-mlx stop {tmp_path}`" in error.hint
    assert error.exit_code == 8
    assert holder(tmp_path)["pid"] == other.pid


def test_within_one_process_there_is_a_second_too(tmp_path, hasty):
    held = RunLock.acquire(tmp_path)
    with pytest.raises(BusyError, match=f"by process {os.getpid()}"):
        RunLock.acquire(tmp_path)
    held.close()


def descriptors():
    return len(list(Path("/dev/fd").iterdir()))


def test_a_refusal_leaves_no_descriptor_open(tmp_path, other, hasty):
    before = descriptors()
    for _ in range(3):
        with pytest.raises(BusyError):
            RunLock.acquire(tmp_path)
        assert is_held(tmp_path)
    assert descriptors() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_process_that_died_is_free(tmp_path, other, number):
    other.send_signal(number)
    other.wait()
    assert not is_held(tmp_path)
    assert holder(tmp_path) is None
    RunLock.acquire(tmp_path).close()


def test_a_process_that_was_handed_the_descriptor_keeps_the_lock(tmp_path):
    held = RunLock.acquire(tmp_path)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[held.descriptor])
    held.name_worker(child.pid)
    held.close()
    assert is_held(tmp_path)
    assert holder(tmp_path)["pid"] == child.pid
    child.communicate()
    assert not is_held(tmp_path)


def test_a_process_that_was_not_handed_it_does_not(tmp_path):
    held = RunLock.acquire(tmp_path)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    held.close()
    assert not is_held(tmp_path)
    child.communicate()


def test_a_shorter_name_replaces_a_longer_one(tmp_path):
    held = RunLock.acquire(tmp_path)
    held.name_worker(10**9)
    held.name_worker(7)
    assert json.loads((tmp_path / "lock").read_text()).keys() == {"pid", "since"}
    assert holder(tmp_path)["pid"] == 7
    held.close()


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "{}", '{"pid": 7}', '{"pid": "x", "since": 0}', "\ufeff"])
def test_a_holder_that_is_just_writing_its_name_is_nameless(tmp_path, content):
    held = RunLock.acquire(tmp_path)
    (tmp_path / "lock").write_text(content)
    assert holder(tmp_path) is None
    assert is_held(tmp_path)
    assert busy(tmp_path).message == f"the run {tmp_path.name!r} is in use by another process"
    held.close()


def test_looking_disturbs_neither_the_holder_nor_another_look(tmp_path):
    held = RunLock.acquire(tmp_path)
    assert is_held(tmp_path) and is_held(tmp_path)
    held.close()
    assert not is_held(tmp_path) and not is_held(tmp_path)


def test_a_lock_that_is_only_looked_at_is_waited_for(tmp_path, monkeypatch):
    first = RunLock.acquire(tmp_path)
    waited = []

    def let_go(seconds):
        waited.append(seconds)
        first.close()

    monkeypatch.setattr(lock, "_PATIENCE_S", 60)
    monkeypatch.setattr(time, "sleep", let_go)
    second = RunLock.acquire(tmp_path)
    assert len(waited) == 1
    second.close()


def test_a_disk_without_locks_is_reported_and_nothing_stays_open(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    before = descriptors()
    with pytest.raises(StorageError, match="cannot be locked: No locks available") as caught:
        RunLock.acquire(tmp_path)
    assert "run.folder=FOLDER" in caught.value.hint and descriptors() == before
    (tmp_path / "lock").touch()
    assert not is_held(tmp_path) and descriptors() == before


def test_a_folder_that_cannot_be_written_to_cannot_be_locked(tmp_path, monkeypatch):
    def refuse(path, flags, mode=0o777):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(lock.os, "open", refuse)
    with pytest.raises(StorageError, match="cannot be locked: Permission denied"):
        RunLock.acquire(tmp_path)
    assert not is_held(tmp_path)


def test_without_room_for_a_name_there_is_no_lock_and_a_held_one_keeps_its_name(tmp_path, monkeypatch):
    def full(descriptor, content, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    held = RunLock.acquire(tmp_path)
    monkeypatch.setattr(lock.os, "pwrite", full)
    held.name_worker(7)
    assert holder(tmp_path)["pid"] == os.getpid()
    held.close()
    before = descriptors()
    with pytest.raises(StorageError, match="cannot be locked: No space left on device"):
        RunLock.acquire(tmp_path)
    assert not is_held(tmp_path) and descriptors() == before
