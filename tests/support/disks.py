"""Disks that note what is done to them, that fail, or that are cut off; and what is then in a folder."""

from __future__ import annotations

import subprocess
import sys

from tspin_mlx.base import filesystem


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Recorder(filesystem.Disk):
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


class Failing(filesystem.Disk):
    """Fails at one operation."""

    def __init__(self, operation, error):
        self.operation, self.error = operation, error

    def __getattribute__(self, name):
        if name in ("operation", "error") or name != self.operation:
            return super().__getattribute__(name)

        def fail(*_):
            raise self.error

        return fail


# Ends the process, without any cleaning up, at the moment before a name is given.
CRASH = """
import os, sys
from pathlib import Path
from tspin_mlx.base import filesystem
filesystem.disk.rename = lambda source, target: os._exit(9)
folder = Path(sys.argv[1])
"""


def crash(folder, statements):
    done = subprocess.run([sys.executable, "-c", CRASH + statements, str(folder)])
    assert done.returncode == 9
