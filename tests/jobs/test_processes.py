"""The engine in a process of its own: signals, kills, terminals, full disks, and two at once."""

import json
import os
import pty
import random
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.digests import adapter_digest
from tspin_mlx.base.errors import SetupError
from tspin_mlx.jobs.control import resume
from tspin_mlx.jobs.launch import prepare
from tspin_mlx.jobs.supervisor import Supervisor
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.plan import BatchSizes
from tspin_mlx.runs.event_log import EventLog, read_events
from tspin_mlx.runs.lock import RunLock, holder, is_held
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.state import state_of

CANARY = "hf_canaryCANARYcanaryCANARYcanary12"
#: What a terminal would obey: clear the screen, write the clipboard, follow a link, turn the text around.
HOSTILE = "\x1b[2J\x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\ [/foo] [@click=app.quit]x[/] \u202eabc\x9b2J"

RECIPE = """
description: {hostile}
model: {model}
lora: {{rank: 2, dropout: 0.1}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
generation: {{max_tokens: 16, batch_size: 1, shard_tokens: 90}}
objective: {{alpha: 0.5, nll_weight: 0.5}}
warmup: {{epochs: 6, learning_rate: 0.01}}
training: {{iterations: 2, epochs: 6, batch_size: 4, micro_batch_size: 2, learning_rate: 0.01}}
evaluation: {{metrics: [exact_match], samples: 2}}
run: {{seed: 3, checkpoint_seconds: 0}}
"""

#: The engine, with something broken in it. It breaks only while more than one triplet is computed at once.
BROKEN = """
import os, sys, time
from tspin_mlx.engine import worker
from tspin_mlx.training.trainer import Trainer
step = Trainer.step
def broken(self, number, batch):
    if number > 4 and self.config.micro_batch_size > {size}:
        {fault}
    return step(self, number, batch)
Trainer.step = broken
worker.main()
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory, tiny_model):
    """A folder with a recipe and its data, whose texts mean no good."""
    folder = tmp_path_factory.mktemp("task")
    for name, count in (("train", 8), ("validation", 3), ("test", 2)):
        rows = [{"prompt": f"{name} {HOSTILE} {i}", "response": f"[{i}]{HOSTILE[:9]}"} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = RECIPE.format(model=tiny_model, hostile=json.dumps(HOSTILE.replace("\x9b", "")))
    (folder / "task.yaml").write_text(text)
    return folder


def command(*args):
    return [sys.executable, "-m", "tspin_mlx", *map(str, args)]


def environment():
    return {**os.environ, "HF_TOKEN": CANARY, "COLUMNS": "100", "NO_COLOR": "1"}


def cli(task, *args, **more):
    return subprocess.run(
        command(*args), cwd=task, env=environment(), capture_output=True, text=True, check=False, **more
    )


@pytest.fixture(scope="module")
def reference(task):
    """What a run that nobody disturbs prints, and ends with."""
    done = cli(task, "run", "task.yaml", "run.name=reference")
    assert done.returncode == 0, done.stderr
    return done, digests(Run(task / "runs/reference"))


def digests(run):
    return {path.parent.name: adapter_digest(path) for path in run.path.glob("**/adapter")}


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


def made(task, name, *changes):
    """A run that was not started yet."""
    source = find_recipe(str(task / "task.yaml"))
    named = [f"run.folder={task / 'runs'}", f"run.name={name}", *changes]
    return prepare(parse_source(source, named), source).run


def started(task, name, *changes):
    """A run in the background."""
    run = made(task, name, *changes)
    done = cli(task, "resume", name, "--detach")
    assert done.returncode == 0, done.stderr
    return run


def steps(run):
    return sum(event["kind"] == "step" for event in read_events(run.events_path))


def generating(run):
    events = [event for event in read_events(run.events_path) if event["kind"] in ("phase_started", "progress")]
    return len(events) > 2 and events[-1]["kind"] == "progress" and "synthetic" in events[-1]["phase"]


def resumed(task, run):
    done = cli(task, "resume", run.name)
    assert done.returncode == 0, done.stderr
    assert state_of(run, time.time()) == "finished"
    return digests(run)


@pytest.mark.parametrize(
    ("number", "seed"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGTERM, 2), (signal.SIGINT, 3)]
)
def test_a_signal_at_any_time_loses_nothing(task, reference, number, seed):
    chance = random.Random(seed)
    run = started(task, f"signal-{seed}")
    count = chance.randrange(1, 30)
    until(lambda: steps(run) >= count)
    time.sleep(chance.random() * 0.1)
    os.kill(until(lambda: holder(run.path))["pid"], number)
    until(lambda: not is_held(run.path))
    assert state_of(run, time.time()) == "interrupted"
    last = list(read_events(run.events_path))[-1]
    assert (last["kind"], last["exit_code"]) == ("run_stopped", {9: 137, 15: 143, 2: 130}[number])
    assert resumed(task, run) == reference[1]


def test_a_kill_while_answers_are_generated_loses_at_most_a_shard(task, reference):
    run = started(task, "generation")
    until(lambda: generating(run))
    os.kill(holder(run.path)["pid"], signal.SIGKILL)
    until(lambda: not is_held(run.path))
    assert resumed(task, run) == reference[1]


def test_engine_and_supervisor_killed_together_leave_an_interrupted_run(task, reference):
    run = started(task, "both")
    until(lambda: steps(run) >= 5)
    engine = holder(run.path)["pid"]
    supervisor = subprocess.run(["ps", "-o", "ppid=", "-p", str(engine)], capture_output=True, check=True).stdout
    os.kill(int(supervisor), signal.SIGKILL)
    assert is_held(run.path)
    os.kill(engine, signal.SIGKILL)
    until(lambda: not is_held(run.path))
    assert state_of(run, time.time()) == "interrupted"
    assert resumed(task, run) == reference[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_finishes_the_step_and_says_how_to_go_on(task, reference, number, code):
    run_name = f"foreground-{code}"
    process = subprocess.Popen(
        command("run", "task.yaml", f"run.name={run_name}"), cwd=task, stderr=subprocess.PIPE, text=True
    )
    path = task / "runs" / run_name
    until(lambda: path.exists() and steps(Run(path)) >= 2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"tspin-mlx resume {run_name}" in said
    run = Run(path)
    events = list(read_events(run.events_path))
    assert events[-1]["kind"] == "run_stopped"
    assert "stopping" in [event["kind"] for event in events[-3:]]
    seen = [event for event in events if event["kind"] in ("step", "resumed")]
    assert not is_held(path)
    done = cli(task, "resume", run_name, "--json")
    again = [json.loads(line) for line in done.stdout.splitlines()]
    if (path / "initial/adapter").exists() and seen[-1]["step"] < seen[-1]["steps"]:
        first = next(event for event in again if event["kind"] == "step")
        assert first["step"] == seen[-1]["step"] + 1  # nothing was made twice
    assert digests(run) == reference[1]


def test_the_second_run_exits_and_names_the_first(task, reference):
    run = started(task, "twice")
    until(lambda: steps(run) >= 1)
    engine = holder(run.path)["pid"]
    os.kill(engine, signal.SIGSTOP)  # on a slow machine it would be done before the others have started
    try:
        for again in (("run", "task.yaml", "run.name=twice"), ("resume", "twice")):
            done = cli(task, *again)
            assert done.returncode == 8
            assert f"error: the run 'twice' is in use by process {engine}" in done.stderr
    finally:
        os.kill(engine, signal.SIGCONT)
    until(lambda: not is_held(run.path))
    assert digests(run) == reference[1]


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
    assert digests(Run(path)) == reference[1]
    assert re.sub(r" +", " ", watched.stdout) == re.sub(
        r" +", " ", reference[0].stdout.replace("reference", "terminal")
    )
    told = without_times(reference[0].stderr)
    assert without_times(watched.stderr) == told[told.index("save the untrained adapter") : -1]


def without_times(text):
    kept = (re.sub(r"[\d.]+ tokens/s", "", line) for line in text.splitlines())
    return [line for line in kept if not line.startswith("  took") and "warning" not in line and line.strip()]


#: Supervises an engine that is broken.
SUPERVISED = """
import sys
from tspin_mlx.jobs import supervisor
supervisor._python = lambda module, path, trusted: [sys.executable, "-c", {engine!r}, path]
supervisor.main()
"""
#: A step that is as long as nobody asks for a stop.
UNTIL_ASKED = "while b'\"stopping\"' not in open(sys.argv[1] + '/events.jsonl', 'rb').read(): time.sleep(0.01)"


@pytest.mark.parametrize(
    ("options", "fifth_step", "count"),
    [((), UNTIL_ASKED, 5), (("--now",), "time.sleep(60)", 4)],
    ids=["step", "now"],
)
def test_stop_waits_for_the_step_unless_it_is_now(task, reference, monkeypatch, options, fifth_step, count):
    run = made(task, f"stop-{count}")
    fault = f"print('in the step', flush=True)\n        {fifth_step}"
    script = SUPERVISED.format(engine=BROKEN.format(fault=fault, size=0))
    with monkeypatch.context() as patched:
        patched.setattr(
            "tspin_mlx.jobs.supervisor._python", lambda module, *args, trusted: [sys.executable, "-c", script, *args]
        )
        supervisor = resume(run)
    try:
        until(lambda: b"in the step" in run.engine_log.read_bytes())
        asked = cli(task, "stop", run.name, *options, timeout=120)
    finally:
        if is_held(run.path):
            os.killpg(supervisor.pid, signal.SIGKILL)
        code = supervisor.wait(timeout=30)
    assert asked.returncode == 0 and f"{run.name} has stopped" in asked.stderr
    last = list(read_events(run.events_path))[-1]
    assert (last["kind"], last["exit_code"], code, steps(run)) == ("run_stopped", 143, 143, count)
    assert state_of(run, time.time()) == "interrupted"
    assert resumed(task, run) == reference[1]


def test_stop_after_the_iteration_finishes_it(task):
    run = started(task, "iteration", "training.iterations=40")  # on a slow machine some are over before it is asked
    until(lambda: any(event["kind"] == "step" and event["iteration"] == 0 for event in read_events(run.events_path)))
    asked = cli(task, "stop", "iteration", "--after", "iteration")
    assert asked.returncode == 0 and "resume iteration" in asked.stderr
    until(lambda: not is_held(run.path))
    begun = list((run.path / "iterations").iterdir())
    assert 1 <= len(begun) < 40 and all((folder / "eval.json").exists() for folder in begun)
    assert (run.path / "best").exists()
    listed = json.loads(cli(task, "runs", "ls", "--json").stdout)
    assert {row["name"]: row["state"] for row in listed}["iteration"] == "interrupted"


def test_nobody_to_stop_is_an_error(task, reference):
    done = cli(task, "stop", "reference")
    assert done.returncode == 2 and "the run 'reference' is finished" in done.stderr
    done = cli(task, "stop", made(task, "idle").name)
    assert done.returncode == 2 and "the run 'idle' is not running" in done.stderr


@pytest.mark.parametrize("limit", [2_000, 6_000, 30_000], ids=["manifest", "adapter", "events"])
def test_a_full_disk_stops_the_run_and_it_continues_when_there_is_room(task, reference, limit):
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = made(task, f"full-{limit}")
    done = cli(task, "resume", run.name, preexec_fn=full)
    assert done.returncode == 7, done.stderr
    assert "could not be written" in done.stderr and f"tspin-mlx resume {run.name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert resumed(task, run) == reference[1]


@pytest.fixture
def supervised(task, monkeypatch):
    """Supervise a run whose engine is broken; gives its exit code and its events."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    def supervise(name, fault, size=1, script=BROKEN):
        run = made(task, name)
        run.engine_log.write_text("")
        script = script.format(fault=fault, size=size)
        monkeypatch.setattr(
            "tspin_mlx.jobs.supervisor._python", lambda module, path, trusted: [sys.executable, "-c", script, path]
        )
        monkeypatch.setattr(subprocess, "Popen", logged(subprocess.Popen, run.engine_log))
        lock = RunLock.acquire(run.path)
        code = Supervisor(run, lock, trusted=False).supervise()
        lock.close()
        return run, code, list(read_events(run.events_path))

    yield supervise
    for number, handler in handlers.items():
        signal.signal(number, handler)


def logged(popen, path):
    """The engine's outputs go where its supervisor's go; here that is pytest's."""

    def start(command, **options):
        with path.open("ab") as log:
            return popen(command, stdout=log, stderr=log, **options)

    return start


METAL = "[METAL] Command buffer execution failed: Insufficient Memory (kIOGPUCommandBufferCallbackErrorOutOfMemory)"
TIMEOUT = "[METAL] Command buffer execution failed: Caused GPU Timeout Error (kIOGPUCommandBufferCallbackErrorTimeout)"


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("out of memory", f"raise RuntimeError({METAL!r})"),
        ("Metal's resource limit", "raise RuntimeError('[metal::malloc] Resource limit (499000) exceeded.')"),
        ("the GPU watchdog", f"print({TIMEOUT!r}, file=sys.stderr, flush=True); os.abort()"),
    ],
)
def test_what_less_at_once_may_help_is_tried_once_and_recorded(supervised, monkeypatch, reason, fault):
    monkeypatch.setenv("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "")
    monkeypatch.delenv("AGX_RELAX_CDM_CTXSTORE_TIMEOUT")
    run, code, events = supervised(f"restart-{len(reason)}", fault)
    assert code == 0 and run.is_finished
    restarted = [event for event in events if event["kind"] == "restarted"]
    assert [(event["reason"], event["micro_batch_size"]) for event in restarted] == [(reason, 1)]
    assert [(made.reason, made.sizes) for made in run.decisions()][-1] == (reason, BatchSizes(True, 1, 1))
    assert os.environ.get("AGX_RELAX_CDM_CTXSTORE_TIMEOUT") == ("1" if "watchdog" in reason else None)
    later = events[events.index(restarted[0]) :]
    assert next(event for event in later if event["kind"] == "resumed")["done"] >= 3  # from the last checkpoint
    assert {phase.train.batch_size for phase in run.plan().train_phases} == {4}


def test_a_run_that_was_asked_to_stop_is_not_started_again(supervised):
    asked = f"import signal; os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0.5); raise RuntimeError({METAL!r})"
    run, code, events = supervised("asked", asked)
    kinds = [event["kind"] for event in events]
    assert "stopping" in kinds and "restarted" not in kinds and kinds[-1] == "run_failed"
    assert code == 4 and not run.is_finished


def test_an_engine_that_dies_before_a_word_is_told_after_an_earlier_end(task, reference, supervised):
    run = made(task, "mute")
    EventLog(run.events_path).emit("run_stopped", message="stopped", exit_code=130)
    _, code, events = supervised("mute", "", script="import os; os.kill(os.getpid(), 9)")
    assert code == 137
    assert [(event["kind"], event["exit_code"]) for event in events] == [("run_stopped", 130), ("run_stopped", 137)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_signal_before_anybody_listens_is_heard_all_the_same(task, number, code, seconds):
    run = made(task, f"early-{number}-{seconds}")
    supervisor = resume(run)
    time.sleep(seconds)
    supervisor.send_signal(number)
    assert supervisor.wait(timeout=60) == code
    assert list(read_events(run.events_path))[-1]["exit_code"] == code


def test_a_start_that_fails_leaves_the_run_to_the_next(task, monkeypatch):
    run = made(task, "unlucky")

    def refuse(*args, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        with pytest.raises(SetupError, match=r"could not be started: .*temporarily unavailable"):
            resume(run)
    assert not is_held(run.path)


def test_the_second_failure_is_told_with_advice(supervised):
    run, code, events = supervised("hopeless", "raise RuntimeError('[malloc] Unable to allocate 9 bytes.')", size=0)
    assert code == 4
    assert [event["kind"] for event in events].count("restarted") == 1
    assert events[-1]["kind"] == "run_failed"
    assert "out of memory" in events[-1]["message"] and "training.grad_checkpoint=true" in events[-1]["hint"]
    assert state_of(run, time.time()) == "failed"


def test_a_bug_is_not_tried_again_and_points_to_the_log(supervised):
    run, code, events = supervised("bug", "raise ValueError('what nobody thought of')")
    assert code == 1
    assert not [event for event in events if event["kind"] == "restarted"]
    assert "what nobody thought of" in events[-1]["message"] and "engine.log" in events[-1]["hint"]
    assert "Traceback" in run.engine_log.read_text()


def test_a_second_signal_ends_the_engine_in_the_middle_of_a_step(task, reference):
    run = made(task, "second")
    script = BROKEN.format(fault="time.sleep(600)", size=0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        engine = subprocess.Popen([sys.executable, "-c", script, str(run.path)])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    until(lambda: steps(run) == 4)
    time.sleep(0.3)
    engine.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert engine.poll() is None  # it would finish the step first
    engine.send_signal(signal.SIGINT)
    assert engine.wait(timeout=30) == 130


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


def test_the_token_is_in_no_file_of_any_run_above(task, reference):
    files = [path for path in (task / "runs").glob("**/*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in reference[0].stdout + reference[0].stderr
