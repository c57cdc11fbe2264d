"""The command line in a process of its own, as a user or a script runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def command(*args: Any) -> list[str]:
    """The words that start ``tspin-mlx`` with this Python."""
    return [sys.executable, "-m", "tspin_mlx", *map(str, args)]


def cli(*args: Any, cwd: Path | None = None, **env: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a pipe and without colours; ``env`` is added to the environment."""
    variables = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **{name: str(value) for name, value in env.items()}}
    return subprocess.run(command(*args), cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)
