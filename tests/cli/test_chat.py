"""``chat`` as a person meets it: from a pipe, and at a terminal."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.console import Console

from tspin_mlx.cli.answers import _Answer, _columns, _Tail
from tspin_mlx.runs.run import Run

#: At this temperature the tiny model says every byte equally often, also those that terminals obey.
HOSTILE = ("--temperature", "1e6", "--max-tokens", "200")


@pytest.fixture(scope="module")
def run(tiny_run):
    return Run(tiny_run)


def command(run, *args):
    return [sys.executable, "-m", "tspin_mlx", "chat", str(run.path), *args]


def piped(run, lines, *args):
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    text = "".join(f"{line}\n" for line in lines)
    return subprocess.run(command(run, *args), input=text, capture_output=True, text=True, env=env, check=False)


def _at_a_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that run in the background have children that ignore it


class Terminal:
    """The command at a terminal of its own."""

    def __init__(self, run, *args, columns):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1"}
        env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            command(run, *args), stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=_at_a_terminal,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def read_until(self, pattern, seconds=60.0):
        """What has come up to where the pattern is found in it."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern} did not come; there is {self.seen!r}"
            self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def press_until(self, key, pattern):
        """Press a key, again if need be: between a prompt and the wait for a key a signal is noticed late."""
        for _ in range(30):
            self.type(key)
            with contextlib.suppress(AssertionError):
                return self.read_until(pattern, seconds=2)
        raise AssertionError(f"{pattern} did not come; there is {self.seen!r}")

    def close(self):
        code = self.process.wait(timeout=30)
        os.close(self.master)
        return code


def test_from_a_pipe_every_line_is_a_prompt_of_its_own(run):
    done = piped(run, ["hello", "", "hello"], "--json", "--compare")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["prompt"], row["policy"]) for row in rows] == [("hello", "base"), ("hello", "best")] * 2
    assert rows[:2] == rows[2:]  # the second knows nothing of the first
    assert rows[0]["text"] != rows[1]["text"]
    assert all(row["finish_reason"] in ("stop", "length") and row["tokens"] >= 1 for row in rows)
    kept = run.evaluations()["iterations/001"]["responses"][0]
    prompt = run.prompts().validation[0]
    (row,) = [json.loads(line) for line in piped(run, [prompt.text], "--iteration", "1", "--json").stdout.splitlines()]
    assert row["text"] == kept["text"] and row["policy"] == "iteration 1"


def test_what_the_model_says_is_shown_and_not_obeyed(run):
    raw = piped(run, ["a", "b", "c"], *HOSTILE, "--json").stdout
    assert "\\u001b" in raw or "\\u0007" in raw
    assert raw.isascii()
    shown = piped(run, ["a", "b", "c"], *HOSTILE).stdout
    assert not {char for char in shown if ord(char) < 32 or 127 <= ord(char) < 160} - {"\n"}


def test_mistakes_are_told(run):
    for args, message in (
        (("--iteration", "9"), "has no policy 'iteration 9'"),
        (("--temperature", "-1"), "temperature"),
        (("--iteration", "1", "--policy", "base"), "not both"),
    ):
        done = piped(run, [], *args)
        assert done.returncode == 2 and message in done.stderr, args
    done = piped(run, ["x" * 300])
    assert done.returncode == 2 and "context length is 256" in done.stderr


def test_at_a_wide_terminal_answers_stand_side_by_side(run, tmp_path):
    terminal = Terminal(run, "--compare", columns=100)
    intro = terminal.read_until("> ")
    assert "base and best" in intro and "system prompt: Be brief." in intro
    terminal.type("hello\n")
    shown = terminal.read_until(r"tokens[^\n]*tokens[^>]*\n> ")
    final = shown[shown.rindex("base") :]
    assert re.search(r"base +.*best \(", final)
    terminal.type("/sav\n")
    assert "did you mean /save?" in terminal.read_until("> $")
    file = tmp_path / "talk.jsonl"
    terminal.type(f"/save {file}\n")
    terminal.read_until("saved to [^>]*> ")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["policy"] for row in rows] == ["base", "best"]
    assert [turn["role"] for turn in rows[0]["messages"]] == ["system", "user", "assistant"]
    terminal.type(f"/save {file}\n")
    terminal.read_until("exists already[^>]*> ")
    terminal.type("/save ~nobody-of-this-name/x\n")
    terminal.read_until("cannot be the name of a file[^>]*> ")
    terminal.type("/reset\n")
    terminal.read_until("a new conversation[^>]*> ")
    terminal.type(f"/save {file}\n")
    terminal.read_until("nothing was said yet[^>]*> ")
    terminal.type("\x04")
    assert terminal.close() == 0


def test_answers_that_grow_side_by_side_leave_room_for_the_echo_of_ctrl_c():
    screen = io.StringIO()
    console = Console(file=screen, width=100)
    console.print(_Tail(_columns({"base": "base", "best": "best"}, {"base": _Answer("x" * 300), "best": _Answer()})))
    lines = screen.getvalue().splitlines()
    assert len(lines) > 3 and max(len(line) for line in lines) == 98


def test_ctrl_c_ends_the_answer_and_not_the_chat(run):
    terminal = Terminal(run, *HOSTILE, "--iteration", "0", columns=60)
    terminal.read_until("> ")
    terminal.press_until("\x03", "> ")  # at the prompt: nothing happens
    terminal.type("hello\n")
    terminal.read_until("hello\r\n(?=.)")
    terminal.type("\x03")
    terminal.read_until(r"\(ended[^>]*> ")
    terminal.type("/save nowhere\n")
    terminal.read_until("nothing was said yet[^>]*> ")
    terminal.type("/quit\n")
    assert terminal.close() == 0


def test_at_a_narrow_terminal_answers_stand_one_under_the_other(run):
    terminal = Terminal(run, "--compare", columns=60)
    terminal.read_until("> ")
    terminal.type("hello\n")
    shown = terminal.read_until(r"best \([^>]*> ")
    assert not re.search("base +.*best", shown)
    terminal.type("/system Answer in one word.\n")
    terminal.read_until("a new conversation[^>]*> ")
    terminal.type("/help\n")
    terminal.read_until("/reset[^>]*> ")
    terminal.type("\x04")
    assert terminal.close() == 0
