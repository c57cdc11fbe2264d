"""The disk beneath the file system module, watched or failing."""

import errno

import pytest

from tests.support.disks import Failing, Recorder
from tspin_mlx.base import filesystem


@pytest.fixture
def recorder(monkeypatch):
    """What is done to the disk, in order."""
    disk = Recorder()
    monkeypatch.setattr(filesystem, "disk", disk)
    return disk.done


@pytest.fixture
def failing(monkeypatch):
    """Makes one operation fail, as on a full disk if nothing else is said."""

    def put(operation, error=None):
        error = error or OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(filesystem, "disk", Failing(operation, error))

    return put
