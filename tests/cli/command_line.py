"""The command line, run as a user runs it."""

import os
import subprocess
import sys


def cli(*args, cwd, **env):
    """Run the command in a process of its own, as in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "tspin_mlx", *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **env},
        check=False,
    )
