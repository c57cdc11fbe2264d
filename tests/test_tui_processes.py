"""The app beside other processes: an engine that dies under it, a real terminal, and that it stays light itself."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from tspin_mlx_tui.machine_stats import parse_gpu, parse_process, stats_of

from tspin_mlx.control import resume
from tspin_mlx.runs.lock import RunLock, holder, is_held

from .app_driver import TRAINING, drive, text_of, until
from .conftest import prepare_small_run

# --- the machine


def test_what_the_system_says_is_read():
    assert parse_process(7, " 2048  150.5\n").resident_bytes == 2048 * 1024
    assert parse_process(7, "2048 99,5", 40.0).cpu_percent == 99.5
    assert parse_process(7, "") is None and parse_process(7, "x y") is None
    told = (
        '"PerformanceStatistics" = {"Device Utilization %"=37,"Renderer Utilization %"=35} "Device Utilization %" = 4'
    )
    assert parse_gpu(told) == 37.0 and parse_gpu("") is None


def test_the_engine_of_a_run_is_found(make_run):
    run = make_run(until=TRAINING)
    assert stats_of(run.path) is None
    lock = RunLock.acquire(run.path)
    found = stats_of(run.path)
    lock.close()
    assert found.pid == os.getpid() and found.resident_bytes > 1 << 20


@pytest.mark.parametrize("supervised", [True, False], ids=["engine", "engine-and-supervisor"])
def test_an_engine_that_is_killed_is_interrupted_at_once(tiny_model, tmp_path, supervised):
    """Killed while it trains, alone or with the process that watches it: within 2 s the screen says what to press."""
    run = prepare_small_run(tiny_model, tmp_path, "warmup.epochs=5000")  # longer than the test
    supervisor = resume(run)

    async def story(app, pilot):
        await until(pilot, lambda: len(app.screen.source.view.steps) > 3, seconds=60.0)
        assert "● running" in text_of(app) and "s stop" in text_of(app)
        engine = holder(run.path)["pid"]
        assert engine != supervisor.pid
        if not supervised:
            supervisor.kill()
        os.kill(engine, signal.SIGKILL)
        begun = time.monotonic()
        await until(pilot, lambda: "interrupted: r resumes" in text_of(app))
        assert time.monotonic() - begun < 2.0
        await until(pilot, lambda: "r resume " in text_of(app) and "s stop" not in text_of(app))

    try:
        drive(story, run=run)
    finally:
        if is_held(run.path):
            os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait()


# --- a fresh process, and a real terminal


def test_the_app_loads_no_mlx_and_no_model_library():
    script = (
        "import sys, asyncio, pathlib\n"
        "import tspin_mlx_tui.app, tspin_mlx_tui.new_run, tspin_mlx_tui.compare, tspin_mlx_tui.export\n"
        "import tspin_mlx_tui.chat, tspin_mlx_tui.draft, tspin_mlx_tui.picker, tspin_mlx_tui.help\n"
        "import tspin_mlx_tui.run_screen, tspin_mlx.control, tspin_mlx.supervisor\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "textual" in loaded
    assert not {"mlx", "mlx.core", "mlx_lm", "transformers", "tokenizers", "huggingface_hub"} & loaded


def test_the_first_screen_loads_no_more_than_it_shows():
    """Each of these takes as long to import as a good part of the app."""
    script = "import sys, tspin_mlx.cli.screens, tspin_mlx_tui.app, tspin_mlx_tui.home\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"numpy", "pydantic", "typer", "yaml", "importlib.metadata"} & set(done.stdout.split())


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, words, cwd, size=(36, 120), **env):
        import fcntl
        import struct
        import termios

        self.begun = time.perf_counter()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            variables = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **env}
            for size in ("COLUMNS", "LINES"):  # pytest-xdist sets them, and they would count more than the terminal's
                variables.pop(size, None)
            os.execve(sys.executable, [sys.executable, "-m", "tspin_mlx", *words], variables)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.seen = b""

    def until(self, wanted, seconds=20.0):
        """Read until something was written; gives the seconds since the start."""
        deadline = time.monotonic() + seconds
        while wanted not in self.seen:
            assert time.monotonic() < deadline, self.seen[-2000:]
            self.read()
        return time.perf_counter() - self.begun

    def read(self, seconds=0.05):
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.terminal, 1 << 16)
            except OSError:
                return False
        return True

    def press(self, keys):
        os.write(self.terminal, keys.encode())

    def end(self):
        deadline = time.monotonic() + 20
        while self.read() and time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
                break
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


def test_the_first_screen_is_quick(make_run):
    """The goal is 0.7 s on a laptop; a machine under test may be busy."""
    run = make_run("quick")
    best = 9.0
    for _ in range(3):
        terminal = Terminal([], run.path.parent.parent)
        best = min(best, terminal.until(b"finished"))
        terminal.press("q")
        terminal.end()
    assert best < 2.0


def test_hostile_text_reaches_neither_markup_nor_terminal(make_run):
    run = make_run("evil", hostile=True)
    terminal = Terminal(["watch", "evil"], run.path.parent.parent)
    terminal.until(b"held out")
    for key, wanted in (("2", b"grad_norm"), ("3", b"[/foo]"), ("4", b"memory held"), ("5", b"[@click=app.quit]")):
        terminal.press(key)
        terminal.until(wanted)
    terminal.press("d")
    terminal.until(b"new run")
    terminal.press("q")
    terminal.end()
    for sequence in (b"\x1b]52", b"\x1b]8;;http", b"\x1b[2J\x1b]", "\u202e".encode(), "\x9b2J".encode()):
        assert sequence not in terminal.seen


def test_a_killed_app_leaves_the_engine_alone(make_run):
    run = make_run("alone", until=TRAINING)
    lock = RunLock.acquire(run.path)
    terminal = Terminal(["watch", "alone"], run.path.parent.parent)
    terminal.until(b"running")
    os.kill(terminal.pid, signal.SIGKILL)
    terminal.end()
    assert is_held(run.path)
    lock.close()


def test_no_terminal_no_app(make_run):
    run = make_run("piped")
    for words in ([], ["resume", "piped", "--tui"]):
        command = [sys.executable, "-m", "tspin_mlx", *words]
        done = subprocess.run(command, cwd=run.path.parent.parent, capture_output=True, text=True, check=False)
        assert "Usage" in done.stdout + done.stderr or "needs a terminal" in done.stderr
        assert "\x1b[" not in done.stdout
