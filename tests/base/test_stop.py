"""Requests to stop: which one counts, where they are heeded, and how signals become requests."""

import os
import signal
import subprocess
import sys

import pytest

from tspin_mlx.base import stop as stop_module
from tspin_mlx.base.errors import Stopped, StorageError
from tspin_mlx.base.stop import EXIT_CODES, Stop
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import make_plan

PHASES = make_plan(
    parse_recipe("data: {train: t.jsonl}\ntraining: {iterations: 2}\nwarmup: {epochs: 1}\n", "r.yaml"),
    {"train": 4, "validation": 2, "test": 2},
).phases
TARGETS = [phase.target for phase in PHASES]


def stops_before(stop):
    """Targets of the phases before which a run would stop, if each were done after the one before it."""
    found = []
    for previous, following in zip([None, *PHASES[:-1]], PHASES, strict=True):
        try:
            stop.between(previous, following)
        except Stopped:
            found.append(following.target)
    return found


def exit_code(stop):
    with pytest.raises(Stopped) as caught:
        stop.check()
    return caught.value.exit_code


def test_nobody_asked():
    stop = Stop()
    assert stop.after is None and not stop.now
    stop.check()
    assert stops_before(stop) == []


def test_after_the_step_is_at_the_next_opportunity():
    stop = Stop()
    stop.request("step", 130)
    assert stop.now
    assert exit_code(stop) == 130
    assert stops_before(stop) == TARGETS


def test_after_the_iteration_is_before_the_first_phase_of_the_next_one():
    stop = Stop()
    stop.request("iteration")
    assert not stop.now
    stop.check()  # a step continues
    assert stops_before(stop) == ["iterations/000/proto_synthetic", "iterations/001/synthetic"]


def test_phases_after_the_last_iteration_are_still_done():
    stop = Stop()
    stop.request("iteration")
    last = next(phase for phase in PHASES if phase.target == "iterations/001/eval.json")
    for following in PHASES[-3:]:
        assert following.kind in ("choose", "test", "test_best")
        stop.between(last, following)


def test_a_run_that_is_resumed_within_an_iteration_finishes_that_one():
    stop = Stop()
    stop.request("iteration", 143)
    phases = {phase.target: phase for phase in PHASES}
    stop.between(None, phases["iterations/000/adapter"])
    stop.between(phases["iterations/000/adapter"], phases["iterations/000/eval.json"])
    with pytest.raises(Stopped) as caught:
        stop.between(phases["iterations/000/eval.json"], phases["iterations/001/synthetic"])
    assert caught.value.exit_code == 143


@pytest.mark.parametrize(
    ("requests", "after", "code"),
    [
        ([("step", 130)], "step", 130),
        ([("step", 130), ("step", 143)], "step", 130),
        ([("step", 130), ("iteration", 143)], "step", 130),
        ([("iteration", 143), ("step", 130)], "step", 130),
        ([("iteration", 143), ("iteration", 143), ("step", 143)], "step", 143),
    ],
)
def test_the_sooner_of_two_requests_counts(requests, after, code):
    stop = Stop()
    for request in requests:
        stop.request(*request)
    assert stop.after == after
    assert exit_code(stop) == code


def test_a_request_without_a_code_is_one_to_terminate():
    stop = Stop()
    stop.request("step")
    assert exit_code(stop) == 143


def test_a_request_is_heard_at_once_and_one_that_changes_nothing_is_not():
    stop, heard = Stop(), []
    stop.on_request = heard.append
    for after in ("iteration", "step", "step", "iteration"):
        stop.request(after)
    assert heard == ["iteration", "step"]


def test_a_request_counts_although_the_log_cannot_be_written():
    def full(after):
        raise StorageError("no space")

    stop = Stop()
    stop.on_request = full
    stop.request("step")
    assert stop.now


# --- signals, in a process of its own

# It says what it was asked, works in the main thread without ever looking at signals, and ends as the engine would.
LISTENER = """
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
from tspin_mlx.base.errors import Stopped
from tspin_mlx.base.stop import Stop, listen
stop = Stop()
stop.on_request = lambda after: print(after, flush=True)
listen(stop)
print("ready", flush=True)
heeds = sys.argv[1] == "heeds"
try:
    while True:
        time.sleep(0.005)
        if heeds:
            stop.check()
except Stopped as stopped:
    sys.exit(stopped.exit_code)
"""


@pytest.fixture
def listener():
    """Starts a process that listens."""
    started = []

    def start(how):
        process = subprocess.Popen([sys.executable, "-c", LISTENER, how], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def send(process, number):
    """Send a signal, and return what the process says to it."""
    process.send_signal(number)
    return process.stdout.readline().strip()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step(listener, number, code):
    process = listener("heeds")
    assert send(process, number) == "step"
    assert process.wait(60) == code


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGINT, signal.SIGTERM, 143),
        (signal.SIGTERM, signal.SIGINT, 130),
    ],
)
def test_a_second_signal_ends_a_process_that_does_not_come_to_the_end_of_its_step(listener, first, second, code):
    process = listener("is deaf")
    assert send(process, first) == "step"
    assert process.poll() is None
    process.send_signal(second)
    assert process.wait(60) == code


def test_sigusr1_asks_for_the_end_of_the_iteration_and_another_signal_for_less(listener):
    process = listener("heeds")
    assert send(process, signal.SIGUSR1) == "iteration"
    assert send(process, signal.SIGUSR1) == "iteration"
    assert process.poll() is None
    assert send(process, signal.SIGTERM) == "step"
    assert process.wait(60) == 143


def test_sigusr1_does_not_end_a_process_that_was_asked_to_stop(monkeypatch):
    class Ended(BaseException):
        pass

    def end(code):
        raise Ended(code)

    received = iter([signal.SIGINT, signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM])
    monkeypatch.setattr(signal, "sigwait", lambda signals: next(received))
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended, match="143"):
        stop_module._wait(Stop(), set(EXIT_CODES))
    assert list(received) == []


def test_signals_have_the_codes_of_the_shell():
    assert {number: 128 + number for number in (signal.SIGINT, signal.SIGTERM)} == {
        number: code for number, code in EXIT_CODES.items() if number != signal.SIGUSR1
    }
    assert EXIT_CODES[signal.SIGUSR1] == 143  # whoever sends it means the end, not the signal
