"""What the app starts: new runs, exports and chats, in processes of their own; and that it stays light itself."""

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import get_args

import pytest
from textual.widgets import Input
from tspin_mlx_tui import chat_process, processes
from tspin_mlx_tui.app import TspinApp
from tspin_mlx_tui.chat import ChatScreen
from tspin_mlx_tui.draft import Draft, changes_of, earlier_speed, look_at
from tspin_mlx_tui.export import ExportScreen
from tspin_mlx_tui.home import HomeScreen
from tspin_mlx_tui.machine_stats import parse_gpu, parse_process, stats_of
from tspin_mlx_tui.new_run import NewRunScreen
from tspin_mlx_tui.processes import Done, finished, lines_of
from tspin_mlx_tui.run_screen import RunScreen

from tspin_mlx.cli.commands_share import ExportFormat
from tspin_mlx.control import resume
from tspin_mlx.estimate import estimate, speed_of
from tspin_mlx.runs.event_log import view_of
from tspin_mlx.runs.lock import RunLock, holder, is_held

from .conftest import prepare_small_run

TRAINING = "iterations/001/adapter"

#: Does what ``tspin-mlx`` would do with the same words, as far as the screens look at it.
COMMAND = r"""
import json, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\n")
if "broken" in " ".join(words):
    sys.exit("error: recipe:3: unknown key\n  → did you mean epochs?")
if words[0] == "plan":
    print(open({plan!r}).read())
elif words[0] == "run":
    print(json.dumps({{"run": {run!r}, "started": "training.iterations=9" not in words}}))
else:
    print("made exports/x\x1b[2J [/foo]")
    print("a note", file=sys.stderr)
    sys.exit(5 if "--yes" in words else 0)
"""

#: Holds no model; answers with what it was asked.
CHAT = r"""
import json, sys
def say(**message):
    print(json.dumps(message), flush=True)
print("a library prints this")
say(ready=True, policies=["base", "best"], system="Reply.", multi_turn={multi_turn})
for line in sys.stdin:
    asked = json.loads(line)
    with open({log!r}, "a") as log:
        log.write(line)
    if asked["messages"][-1]["content"] == "die":
        sys.exit("out of memory")
    if asked["messages"][-1]["content"] == "long":
        say(error="too long")
        continue
    for policy in asked["policies"]:
        for piece in (f"{{policy}} says ", "\x1b[2J[/foo] ", str(len(asked["messages"]))):
            say(policy=policy, text=piece)
        say(policy=policy, done=True, tokens=3)
"""


@pytest.fixture
def commands(make_run, tmp_path, monkeypatch):
    """A command line of our own; gives what it was asked."""
    run = make_run("made", until=TRAINING)
    asked = tmp_path / "asked.jsonl"
    script = tmp_path / "fake.py"
    script.write_text(COMMAND.format(log=str(asked), plan=str(run.path / "plan.json"), run=str(run.path)))
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, str(script)])
    return lambda: [json.loads(line) for line in asked.read_text().splitlines()]


def drive(story, *, run=None, size=(120, 36)):
    async def told():
        app = TspinApp(run=run and run.path)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause(0.2)
            await story(app, pilot)

    asyncio.run(told())


async def until(pilot, condition, seconds=15.0):
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError("it did not happen")


def text_of(app):
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


# --- a new run


def test_a_new_run_is_planned_while_it_is_typed_and_started(commands, tmp_path):
    async def story(app, pilot):
        await pilot.press("n")
        assert isinstance(app.screen, NewRunScreen)
        app.screen.query_one("#recipe", Input).value = "waves.yaml"
        app.screen.query_one("#iterations", Input).value = "2"
        await until(pilot, lambda: "8 training, 3 validation" in text_of(app) and "say yes" in text_of(app))
        seen = text_of(app)
        assert "train.jsonl:1" in seen and "→ yes" in seen
        assert "of the optimiser" in seen and "at the pace of the run made" in seen
        assert "$ tspin-mlx run waves.yaml training.iterations=2" in seen
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))

    drive(story)
    assert ["run", "waves.yaml", "training.iterations=2", "--detach", "--json"] in commands()


def test_a_name_that_is_taken_by_a_finished_run_is_told(commands):
    async def story(app, pilot):
        await pilot.press("n")
        app.screen.query_one("#iterations", Input).value = "9"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "is there already, and finished." in text_of(app))
        assert isinstance(app.screen, NewRunScreen)

    drive(story)


def test_what_is_wrong_is_told_and_nothing_starts(commands):
    async def story(app, pilot):
        await pilot.press("n")
        app.screen.query_one("#recipe", Input).value = "nowhere.yaml"
        await until(pilot, lambda: "nowhere.yaml: no such recipe file" in text_of(app))
        app.screen.query_one("#recipe", Input).value = "waves.yaml"
        app.screen.query_one("#name", Input).value = "broken"
        await until(pilot, lambda: "did you mean epochs?" in text_of(app))
        await pilot.press("ctrl+s")
        await pilot.pause(0.5)
        await until(pilot, lambda: "did you mean epochs?" in text_of(app))
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)

    drive(story)


def test_a_file_is_picked(commands, tmp_path):
    async def story(app, pilot):
        await pilot.press("n", "down", "down", "ctrl+o")
        await until(pilot, lambda: "train.jsonl" in text_of(app) and "waves.yaml" not in text_of(app))
        tree = app.screen.query_one("_Files")
        await until(pilot, lambda: len(tree.root.children) > 1)
        line = next(node.line for node in tree.root.children if "train.jsonl" in str(node.label))
        tree.move_cursor_to_line(line)
        await pilot.press("enter")
        assert app.screen.query_one("#train", Input).value == str(tmp_path / "train.jsonl")

    drive(story)


def test_a_fork_begins_with_the_settings_of_its_run(commands, make_run):
    run = make_run("origin", overrides=["training.learning_rate=0.003"])
    recipe, changes = changes_of(run)
    assert recipe.endswith("waves.yaml")
    assert set(changes) == {"run.name=origin", "training.learning_rate=0.003"}

    async def story(app, pilot):
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and "Fork of origin" in text_of(app))
        app.screen.query_one("#rate", Input).value = "0.1"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.run.name == "made")

    drive(story, run=run)
    words = next(words for words in commands() if words[0] == "run")
    assert words[2:] and {"training.learning_rate=0.1", "run.name=origin", "--fork", "origin-2"} <= set(words)


def test_a_draft_is_looked_at_without_a_model(make_run, tmp_path):
    make_run()
    looked = look_at(Draft(str(tmp_path / "waves.yaml")))
    assert looked.rows[0] == ("train.jsonl:1", "say yes", "yes") and looked.characters == (7.0, 3.0)
    assert looked.defaults["training.batch_size"] == 4
    wrong = look_at(Draft(str(tmp_path / "waves.yaml"), ("training.epocs=1",)))
    assert "unknown key training.epocs" in wrong.error and "epochs" in wrong.error and wrong.defaults
    (tmp_path / "train.jsonl").write_text('{"prompt": "x"}\nnot json\n')
    assert [row[2] for row in look_at(Draft(str(tmp_path / "waves.yaml"))).rows] == ["", ""]
    remote = look_at(Draft(str(tmp_path / "waves.yaml"), ("data.train=hub:a/b:train",)))
    assert "read when the run is made" in remote.rows[0][1]


def test_estimates_by_hand(make_run):
    run = make_run(steps=12)
    speed = speed_of(view_of(run.events_path), run.plan_row)
    assert speed.train_s == pytest.approx(0.5 / 4) and speed.peak_bytes == 2_000_000_000
    # Two generations of 8 answers and four evaluations of 3, 5 s each.
    assert speed.answer_s == pytest.approx((2 * 5 / 8 + 4 * 5 / 3) / 6)
    cost = estimate(run.plan_row, (8.0, 4.0), speed)
    steps = {phase.kind: phase.updates.steps for phase in run.plan().phases if phase.updates}
    assert cost.steps == steps["warmup"] + 2 * steps["train"]
    assert cost.answers == 2 * 8 + 4 * 3
    assert cost.train_tokens == 4 * 3 * (steps["warmup"] + 2 * steps["train"] + 3 * steps["train"])
    assert cost.seconds == pytest.approx(cost.steps * 4 * speed.train_s + cost.answers * speed.answer_s)
    assert estimate(run.plan_row, None, None).seconds is None
    found, adapter = earlier_speed(run.path.parent, "tiny")
    assert found == speed and adapter == 1000
    assert earlier_speed(run.path.parent, "another") is None


# --- export


def test_the_form_makes_the_command_and_shows_what_it_says(commands, make_run):
    run = make_run("done")

    async def story(app, pilot):
        await pilot.press("e")
        assert isinstance(app.screen, ExportScreen)
        assert "$ tspin-mlx export" in text_of(app)
        await pilot.press("right")
        await until(pilot, lambda: "$ tspin-mlx fuse" in text_of(app))
        await pilot.press("left", "down", *"3", "down", "right", "down", *"out")
        await until(pilot, lambda: "--out out" in " ".join(app.screen.arguments))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "done" in text_of(app) and "a note" in text_of(app))
        assert "made exports/x[2J [/foo]" in text_of(app)

    drive(story, run=run)
    assert commands()[-1] == ["export", str(run.path), "--format", "peft", "--iteration", "3", "--out", "out"]


@pytest.mark.parametrize("size", [(120, 36), (50, 16)])
def test_the_form_has_every_format_of_the_command(commands, make_run, size):
    run = make_run("done")

    async def story(app, pilot):
        await pilot.press("e")
        await until(pilot, lambda: all(name in text_of(app) for name in get_args(ExportFormat)))
        assert app.screen.query_one("#iteration", Input).placeholder == "best"
        await pilot.press("down", "down", "left")
        await until(pilot, lambda: "--format triplets" in " ".join(text_of(app).split()))
        assert app.screen.query_one("#iteration", Input).placeholder == "all"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "a note" in text_of(app) and not app.screen._working)

    drive(story, run=run, size=size)
    assert commands()[-1] == ["export", str(run.path), "--format", "triplets"]


def test_an_upload_shows_its_files_and_is_asked_about(commands, make_run):
    run = make_run("done")

    async def story(app, pilot):
        await pilot.press("e", "left", "ctrl+s")
        await until(pilot, lambda: "name the repository first" in text_of(app))
        await pilot.press("down", *"me/it", "down", "right", "ctrl+s")
        await until(pilot, lambda: "The same key again sends these files." in text_of(app))
        assert "a note" in text_of(app)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "ended with exit code 5" in text_of(app))

    drive(story, run=run)
    pushed = [words for words in commands() if words[0] == "push"]
    assert pushed == [["push", str(run.path), "me/it", "--public", how] for how in ("--dry-run", "--yes")]


def test_processes_tell_how_they_ended(commands):
    done = asyncio.run(finished(["plan", "broken"]))
    assert (done.code, done.complaint) == (1, "recipe:3: unknown key\n  → did you mean epochs?")
    assert Done(3, "", "").complaint == "it ended with exit code 3"

    async def lines():
        return [line async for line in lines_of(["push", "--yes"])]

    assert asyncio.run(lines())[-1] == 5


# --- chat


@pytest.fixture
def chat(make_run, tmp_path):
    """A finished run whose chat is answered by a process without a model; gives the run and what was asked."""
    asked = tmp_path / "chat.jsonl"
    return make_run("done"), lambda: [json.loads(line) for line in asked.read_text().splitlines()]


@pytest.fixture(autouse=True)
def chat_without_a_model(tmp_path, monkeypatch):
    """The process that answers in the chat; gives a way to let it take no conversations."""

    def write(*, multi_turn):
        script.write_text(CHAT.format(log=str(tmp_path / "chat.jsonl"), multi_turn=multi_turn))

    script = tmp_path / "chat.py"
    write(multi_turn=True)
    monkeypatch.setattr(chat_process, "COMMAND", [sys.executable, str(script)])
    return write


@pytest.mark.parametrize("size", [(120, 36), (50, 16)])
def test_before_and_after_answer_side_by_side_and_remember_their_own_words(chat, size):
    run, asked = chat

    async def story(app, pilot):
        await pilot.press("c")
        assert isinstance(app.screen, ChatScreen)
        await until(pilot, lambda: "loading" not in text_of(app))
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: "base says [2J[/foo] 2" in text_of(app) and "best says [2J[/foo] 2" in text_of(app))
        await pilot.press(*"more", "enter")
        await until(pilot, lambda: "base says [2J[/foo] 4" in text_of(app) and "best says [2J[/foo] 4" in text_of(app))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "says" not in text_of(app))
        await pilot.press("escape")
        assert isinstance(app.screen, RunScreen)

    drive(story, run=run, size=size)
    first, *second = asked()
    assert first["policies"] == ["base", "best"]
    assert first["messages"] == [{"role": "system", "content": "Reply."}, {"role": "user", "content": "hello"}]
    assert [request["policies"] for request in second] == [["base"], ["best"]]
    assert second[1]["messages"][2]["content"].startswith("best says")


def test_what_cannot_be_answered_is_not_asked_again(chat):
    run, asked = chat

    async def story(app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "loading" not in text_of(app))
        await pilot.press(*"long", "enter")
        await until(pilot, lambda: "too long" in text_of(app))
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: "best says [2J[/foo] 2" in text_of(app))

    drive(story, run=run)
    assert [turn["content"] for turn in asked()[-1]["messages"]] == ["Reply.", "hello"]


def test_a_template_for_one_turn_gets_one(chat, chat_without_a_model):
    run, asked = chat
    chat_without_a_model(multi_turn=False)

    async def story(app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "loading" not in text_of(app))
        for word in ("hello", "more"):
            await pilot.press(*word, "enter")
            await until(pilot, lambda word=word: word in text_of(app) and "best says [2J[/foo] 2" in text_of(app))

    drive(story, run=run)
    assert [len(request["messages"]) for request in asked()] == [2, 2]


def test_a_chat_that_dies_says_why(chat):
    run, _ = chat

    async def story(app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "loading" not in text_of(app))
        await pilot.press(*"die", "enter")
        await until(pilot, lambda: "the chat's process has ended: out of memory" in text_of(app))

    drive(story, run=run)


def test_no_chat_process_stays_behind(chat):
    run, _ = chat
    seen = []

    async def story(app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "loading" not in text_of(app))
        process = app.screen._process._process
        seen.append(process)
        await pilot.press("escape")
        await until(pilot, lambda: process.returncode is not None)

    drive(story, run=run)
    assert seen


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
