"""The command line, in a process of its own or, where that is not the point, in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tspin_mlx.cli import main

Done = subprocess.CompletedProcess[str]


def command(*args: Any) -> list[str]:
    """The words that start ``tspin-mlx`` with this Python."""
    return [sys.executable, "-m", "tspin_mlx", *map(str, args)]


def cli(*args: Any, cwd: Path | None = None, **env: Any) -> Done:
    """Run a command to its end as in a pipe; ``env`` is added to the environment."""
    variables = {**os.environ, **_environment(env)}
    return subprocess.run(command(*args), cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)


def cli_here(capsys: pytest.CaptureFixture[str], *args: Any, cwd: Path | None = None, **env: Any) -> Done:
    """The same in this process, which saves the time that an interpreter and its imports take."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in _environment(env).items():
            patched.setenv(name, value)
        if cwd is not None:
            patched.chdir(cwd)
        patched.setattr(sys, "argv", ["tspin-mlx", *map(str, args)])
        patched.setattr(warnings, "showwarning", warnings.showwarning)  # which the command line replaces
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
    said = capsys.readouterr()
    return Done(args, ended.value.code or 0, said.out, said.err)


def _environment(more: dict[str, Any]) -> dict[str, str]:
    return {"NO_COLOR": "1", "COLUMNS": "100", **{name: str(value) for name, value in more.items()}}
