"""The medium beneath: files really reach it, and nothing begins for which it has no room."""

import errno
import fcntl
import os
import shutil
import sys
from collections import namedtuple

import pytest

from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import StorageError


def test_on_macos_a_file_goes_to_the_medium_and_not_only_to_the_drive(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: synced.append(command))
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append("fsync"))
    (tmp_path / "x").write_text("x")
    filesystem.disk.sync(tmp_path / "x")
    filesystem.disk.sync(tmp_path)
    assert synced == [51, "fsync"]


def test_a_medium_without_a_full_sync_is_synced_as_well_as_it_can(tmp_path, monkeypatch):
    def refuse(descriptor, command):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    synced = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append("fsync"))
    (tmp_path / "x").write_text("x")
    filesystem.disk.sync(tmp_path / "x")
    assert synced == ["fsync"]


@pytest.mark.parametrize(("free", "said"), [(5_000_000, None), (4_999_999, 5), (1_000_000, 1)])
def test_a_run_that_would_fill_the_disk_is_not_begun(tmp_path, monkeypatch, free, said):
    asked = []
    usage = namedtuple("usage", "total used free")

    def disk_usage(path):
        asked.append(path)
        return usage(10**9, 10**9 - free, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    run = tmp_path / "not" / "yet"
    if said is None:
        filesystem.check_space(run, 5_000_000)
    else:
        with pytest.raises(StorageError) as caught:
            filesystem.check_space(run, 5_000_000)
        assert caught.value.message == f"{run}: {said} MB are free, but the run may need 5 MB"
        assert "run.folder=FOLDER" in caught.value.hint
    assert asked == [tmp_path]
