"""The app and other processes: an engine that dies, a real terminal (pty), and what the app imports."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.support.small_runs import prepare_small_run
from tests.tui.driver import TRAINING, drive, text_of, until
from tspin_mlx.jobs.control import request_stop, resume
from tspin_mlx.runs.event_log import read_events
from tspin_mlx.runs.lock import RunLock, holder, is_held
from tspin_mlx.tui.state.machine_stats import parse_ioreg, parse_ps, process_stats

# --- process statistics, and an engine that is killed


def test_the_output_of_ps_and_ioreg_is_parsed():
    assert parse_ps(7, " 2048  150.5\n").resident_bytes == 2048 * 1024
    assert parse_ps(7, "2048 99,5", 40.0).cpu_percent == 99.5
    assert parse_ps(7, "") is None and parse_ps(7, "x y") is None
    ioreg = (
        '"PerformanceStatistics" = {"Device Utilization %"=37,"Renderer Utilization %"=35} "Device Utilization %" = 4'
    )
    assert parse_ioreg(ioreg) == 37.0 and parse_ioreg("") is None


def test_the_engine_of_a_run_is_found(make_run):
    run = make_run(until=TRAINING)
    assert process_stats(run.path) is None
    lock = RunLock.acquire(run.path)
    stats = process_stats(run.path)
    lock.close()
    assert stats.pid == os.getpid() and stats.resident_bytes > 1 << 20


@pytest.mark.parametrize("supervised", [True, False], ids=["engine", "engine-and-supervisor"])
def test_an_engine_that_is_killed_is_interrupted_at_once(tiny_model, tmp_path, supervised):
    """Killed while it trains, with or without its supervisor: the screen shows it long before the log would count as
    silent."""
    run = prepare_small_run(tiny_model, tmp_path, "warmup.epochs=5000")  # longer than the test
    supervisor = resume(run)

    async def scenario(app, pilot):
        await until(pilot, lambda: len(app.screen.source.view.steps) > 3, seconds=60.0)
        assert "● running" in text_of(app) and "s stop" in text_of(app)
        engine = holder(run.path)["pid"]
        assert engine != supervisor.pid
        if not supervised:
            supervisor.kill()
        os.kill(engine, signal.SIGKILL)
        await until(pilot, lambda: "interrupted: r resumes" in text_of(app), seconds=30.0)
        await until(pilot, lambda: "r resume " in text_of(app) and "s stop" not in text_of(app))

    try:
        drive(scenario, run=run)
    finally:
        if is_held(run.path):
            os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait()


# --- a fresh process, and a real terminal


def test_the_app_loads_no_mlx_and_no_model_library():
    script = (
        "import sys, asyncio, pathlib\n"
        "from tspin_mlx.tui import app\n"
        "from tspin_mlx.tui.screens import chat, compare, export, help, new_run, picker, run\n"
        "from tspin_mlx.tui.state import draft\n"
        "from tspin_mlx.jobs import control, supervisor\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "textual" in loaded
    assert not {"mlx", "mlx.core", "mlx_lm", "transformers", "tokenizers", "huggingface_hub"} & loaded


def test_the_first_screen_loads_no_more_than_it_shows():
    """Each of these modules takes about as long to import as much of the app."""
    script = "import sys, tspin_mlx.cli.screens, tspin_mlx.tui.app, tspin_mlx.tui.screens.home\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"numpy", "pydantic", "typer", "yaml", "importlib.metadata"} & set(done.stdout.split())


class Terminal:
    """Runs tspin-mlx in a pseudo-terminal."""

    def __init__(self, words, cwd, size=(36, 120), **env):
        import fcntl
        import struct
        import termios

        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            variables = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **env}
            for size in ("COLUMNS", "LINES"):  # set by pytest-xdist; they would override the terminal's size
                variables.pop(size, None)
            os.execve(sys.executable, [sys.executable, "-m", "tspin_mlx", *words], variables)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.seen, self.pressed_at = b"", 0

    def until(self, wanted, seconds=30.0):
        """Read until the program has written some bytes since the last key."""
        deadline = time.monotonic() + seconds
        while wanted not in self.seen[self.pressed_at :]:
            assert time.monotonic() < deadline, self.seen[-2000:]
            self.read()

    def read(self, seconds=0.05):
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.terminal, 1 << 16)
            except OSError:
                return False
        return True

    def press(self, keys):
        self.pressed_at = len(self.seen)
        os.write(self.terminal, keys.encode())

    def end(self):
        """Wait for the program to end, and return its exit code."""
        deadline = time.monotonic() + 30
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            self.read() or time.sleep(0.05)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(ended[1])


def test_the_app_starts_and_quits_in_a_terminal(make_run):
    run = make_run("quick")
    terminal = Terminal([], run.path.parent.parent)
    terminal.until(b"finished")
    terminal.press("q")
    terminal.until(b"\x1b[?1049l")  # leaves the alternate screen
    assert terminal.end() == 0


def test_hostile_text_reaches_neither_markup_nor_terminal(make_run):
    run = make_run("evil", hostile=True)
    terminal = Terminal(["watch", "evil"], run.path.parent.parent)
    terminal.until(b"held out")
    panes = (
        ("2", b"grad_norm", b"0.0833"),
        ("3", b"expert  y", b"[/foo]"),
        ("4", b"memory held", b"M9"),
        ("5", b"took 5s", b"[@click=app.quit]"),
        ("d", b"runs in", b"evil"),
    )
    for key, *only_there in panes:
        terminal.press(key)
        for wanted in only_there:
            terminal.until(wanted)
    terminal.press("q")
    assert terminal.end() == 0
    for sequence in (b"\x1b]52", b"\x1b]8;;http", b"\x1b[2J\x1b]", "\u202e".encode(), "\x9b2J".encode()):
        assert sequence not in terminal.seen


def test_a_killed_app_leaves_the_engine_alone(tiny_model, tmp_path):
    run = prepare_small_run(tiny_model, tmp_path, "warmup.epochs=5000")  # longer than the test
    terminal = Terminal(["watch", "small"], tmp_path)
    terminal.until(b"r resumes")
    terminal.press("r")
    try:
        wait_for(lambda: steps(run) > 3)
        os.killpg(terminal.pid, signal.SIGKILL)
        assert terminal.end() == -signal.SIGKILL
        seen = steps(run)
        wait_for(lambda: steps(run) > seen + 3)
    finally:
        if is_held(run.path):
            request_stop(run, "now")
    wait_for(lambda: not is_held(run.path))


def steps(run):
    return sum(event["kind"] == "step" for event in read_events(run.events_path))


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.05)


def test_without_a_terminal_there_is_no_app(make_run):
    run = make_run("piped")
    for words in ([], ["resume", "piped", "--tui"]):
        command = [sys.executable, "-m", "tspin_mlx", *words]
        done = subprocess.run(command, cwd=run.path.parent.parent, capture_output=True, text=True, check=False)
        assert "Usage" in done.stdout + done.stderr or "needs a terminal" in done.stderr
        assert "\x1b[" not in done.stdout
