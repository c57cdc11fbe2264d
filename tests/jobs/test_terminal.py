"""Runs at a real terminal: one that is closed meanwhile, and texts that would command it."""

import os
import pty
import re
import sys

from tests.support.command_line import command
from tests.support.digests import run_digests
from tests.support.engine_process import cli, environment, steps
from tests.support.waiting import until
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.run import Run


def test_a_closed_terminal_ends_nothing_and_watch_shows_the_same(task, reference):
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(task)
        os.execve(sys.executable, command("run", "task.yaml", "run.name=terminal"), environment())
    path = task / "runs/terminal"
    until(lambda: (path.exists() and steps(Run(path)) >= 3) or not os.read(terminal, 1))
    os.close(terminal)
    os.waitpid(pid, 0)
    assert is_held(path)
    watched = cli(task, "watch", "--plain", "terminal")
    assert watched.returncode == 0, watched.stderr
    assert run_digests(Run(path)) == reference[1]
    assert re.sub(r" +", " ", watched.stdout) == re.sub(
        r" +", " ", reference[0].stdout.replace("reference", "terminal")
    )
    told = without_times(reference[0].stderr)
    assert without_times(watched.stderr) == told[told.index("save the untrained adapter") : -1]


def without_times(text):
    kept = (re.sub(r"[\d.]+ tokens/s", "", line) for line in text.splitlines())
    return [line for line in kept if not line.startswith("  took") and "warning" not in line and line.strip()]


def test_no_model_text_reaches_the_terminal_as_a_command(task, reference):
    for args in (
        ("runs", "show", "reference"),
        ("watch", "--plain", "reference"),
        ("recipes", "show", "task.yaml"),
        ("run", "task.yaml", "run.name=reference", "run.seed=9"),
        ("run", "task.yaml", "run.name=seen", "training.iterations=1"),
    ):
        shown = at_a_terminal(task, *args)
        assert b"test" in shown or b"reference" in shown
        for sequence in (b"\x1b]", b"\x1b[2J", "\x9b".encode(), "\u202e".encode()):
            assert sequence not in shown, args


def at_a_terminal(task, *args):
    """All bytes that a command writes to a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(task)
        os.execve(sys.executable, command(*args), {**environment(), "TERM": "xterm-256color"})
    seen = b""
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that the other side has closed it
            break
        if not piece:
            break
        seen += piece
    os.close(terminal)
    os.waitpid(pid, 0)
    return seen
