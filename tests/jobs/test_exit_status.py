"""How the engine's process ended, from its return code and from what MLX, Metal, CUDA and Python print."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tspin_mlx.base.errors import (
    BusyError,
    DamagedError,
    DataError,
    DivergedError,
    HubError,
    RecipeError,
    ResourcesError,
    SetupError,
    StorageError,
    UsageError,
)
from tspin_mlx.jobs.control import Outcome, outcome
from tspin_mlx.jobs.exit_status import ExitStatus, classify


def traceback(error):
    """What Python prints on an exception that nobody catches."""
    return (
        "Traceback (most recent call last):\n"
        '  File "<frozen runpy>", line 198, in _run_module_as_main\n'
        '  File "/home/a/.venv/lib/python3.11/site-packages/tspin_mlx/training.py", line 91, in step\n'
        "    loss, grads, seen = self._accumulated(batch)\n"
        "                        ^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        f"{error}\n"
    )


def terminated(what):
    """What macOS's C++ library prints on an exception that Metal's thread throws, and faulthandler after it."""
    return f"libc++abi: terminating due to uncaught exception of type std::runtime_error: {what}\n{dump('Aborted')}"


def dump(reason):
    """What ``-X faulthandler`` prints on a signal."""
    return (
        f"Fatal Python error: {reason}\n\n"
        "Thread 0x00007f225f5dbb80 (most recent call first):\n"
        '  File "/home/a/.venv/lib/python3.11/site-packages/tspin_mlx/training.py", line 136 in _accumulated\n'
        '  File "<frozen runpy>", line 88 in _run_code\n\n'
        "Extension modules: numpy._core._multiarray_umath, numpy.linalg._umath_linalg, yaml._yaml (total: 3)\n"
    )


METAL = "[METAL] Command buffer execution failed: "
NO_MEMORY = f"{METAL}Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
TOO_LARGE = (
    "RuntimeError: [metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the maximum allowed "
    "buffer size of 30150672384 bytes."
)
NUMPY = "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 512. GiB for an array with shape (68719476736,)"
BAD_ALLOC = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"
INTERACTIVITY = "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
ILLEGAL = "an illegal memory access was encountered"
GONE = "MPS server is not ready to accept new MPS client requests"
IGNORED = (
    "Ignored (for causing prior/excessive GPU errors) (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"
)
VICTIM = "Discarded (victim of GPU error/recovery) (00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)"

SYMPTOMS = {
    "out of memory": [
        (-6, terminated(NO_MEMORY)),
        (1, traceback(f"RuntimeError: {NO_MEMORY}")),
        (-6, terminated(f"{METAL}Insufficient Memory (IOAF code 8)")),
        (1, traceback("RuntimeError: (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)")),
        (1, traceback(TOO_LARGE)),
        (1, traceback("RuntimeError: [malloc] Unable to allocate 1073741824 bytes.")),
        (1, traceback("RuntimeError: cudaMallocAsync(&data, size, stream) failed: out of memory")),
        (1, traceback("RuntimeError: cudaGraphLaunch(exec, stream) failed: out of memory")),
        (-6, BAD_ALLOC + dump("Aborted")),
        (1, traceback("MemoryError")),
        (1, traceback(NUMPY)),
    ],
    "Metal's resource limit": [
        (1, traceback("RuntimeError: [metal::malloc] Resource limit (499000) exceeded.")),
        (-6, terminated("[metal::malloc] Resource limit (499000) exceeded.")),
    ],
    "the GPU watchdog": [
        (-6, terminated(f"{METAL}Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)")),
        (-6, terminated(f"{METAL}Caused GPU Timeout Error (IOAF code 2)")),
        (-6, terminated(f"{METAL}{IGNORED}")),
        (-6, terminated(f"{METAL}Caused GPU Hang Error (00000003:kIOGPUCommandBufferCallbackErrorHang)")),
        (-6, terminated(METAL + INTERACTIVITY)),
        (1, traceback(f"RuntimeError: {METAL}{INTERACTIVITY}")),
        (-6, terminated(METAL + VICTIM)),
    ],
    "a fault of the GPU": [
        (1, traceback(f"RuntimeError: cudaLaunchHostFunc(signal_stream_, signal, this) failed: {ILLEGAL}")),
        (1, traceback(f"RuntimeError: cudaGraphInstantiate(&handle_, graph, nullptr, nullptr, 0) failed: {ILLEGAL}")),
        (1, traceback(f"ImportError: cudaMallocManaged(&data, size) failed: {GONE}")),
    ],
}
CASES = [(kind, *case) for kind, cases in SYMPTOMS.items() for case in cases]


@pytest.mark.parametrize(("kind", "returncode", "log"), CASES, ids=range(len(CASES)))
def test_the_log_says_what_ran_out_and_that_less_may_help(kind, returncode, log):
    ending = classify(returncode, log)
    assert (ending.kind, ending.exit_code, ending.restartable) == (kind, 4, True)
    assert ending.message == f"the engine stopped: {kind}"
    assert "resume it" in ending.hint


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("out of memory", "training.grad_checkpoint=true"),
        ("Metal's resource limit", "generation.shard_tokens"),
        ("the GPU watchdog", "training.micro_batch_size"),
    ],
)
def test_the_hint_names_what_to_set(kind, words):
    assert all(words in classify(*case).hint for case in SYMPTOMS[kind])


def test_a_process_that_ends_well_has_finished_whatever_it_wrote():
    assert classify(0, "") == classify(0, traceback("MemoryError")) == ExitStatus("finished", 0)


@pytest.mark.parametrize(
    ("returncode", "exit_code"),
    [(130, 130), (143, 143), (-signal.SIGINT, 130), (-signal.SIGTERM, 143), (-signal.SIGUSR1, 143)],
)
def test_a_process_that_was_asked_to_stop_has_stopped(returncode, exit_code):
    assert classify(returncode, "") == ExitStatus("stopped", exit_code, message="stopped")
    assert classify(returncode, "RuntimeError: out of memory").kind == "stopped"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2),
        (RecipeError, 2),
        (DataError, 2),
        (SetupError, 3),
        (BusyError, 8),
        (HubError, 5),
        (DivergedError, 6),
        (StorageError, 7),
        (DamagedError, 7),
        (ResourcesError, 4),
    ],
)
def test_an_error_that_the_engine_has_reported_itself_keeps_its_exit_code(error, code):
    assert error.exit_code == code
    assert classify(code, "a warning about an out of memory killer") == ExitStatus("reported", code)


def test_a_process_that_was_killed_may_have_been_so_by_the_system_and_is_not_started_again():
    ending = classify(-signal.SIGKILL, "some warning\n")
    assert (ending.kind, ending.exit_code, ending.restartable) == ("killed", 137, False)
    assert "because memory ran out" in ending.message


OTHER = {
    "exception": (1, traceback("KeyError: 'best'"), "(exit code 1): KeyError: 'best'"),
    "silence": (1, "", "(exit code 1): nothing was logged"),
    "empty lines": (1, " \n\n", "(exit code 1): nothing was logged"),
    "blank end": (9, "first\nlast\n \n", "(exit code 9): last"),
    "a shell's code": (134, "odd", "(exit code 134): odd"),
    "segfault": (-11, dump("Segmentation fault"), "(signal SIGSEGV): Fatal Python error: Segmentation fault"),
    "division": (-8, "a warning\n" + dump("Floating point"), "(signal SIGFPE): Fatal Python error: Floating point"),
    "metal's bug": (-6, terminated(f"{METAL}Invalid Resource"), "(signal SIGABRT): Fatal Python error: Aborted"),
    "hang-up": (-1, "", "(signal SIGHUP): nothing was logged"),
}


@pytest.mark.parametrize(("returncode", "log", "last"), OTHER.values(), ids=OTHER)
def test_everything_else_is_a_bug_and_says_how_it_ended(returncode, log, last):
    ending = classify(returncode, log)
    assert (ending.kind, ending.exit_code, ending.restartable) == ("bug", 1, False)
    assert ending.message == f"the engine crashed {last}"
    assert "report it with the run's engine.log" in ending.hint


def said(kind, **more):
    return {"kind": kind, **more}


FAILED = said("run_failed", message="no room", hint="make some", exit_code=7)
SILENT = "the engine ended without a message; its log is runs/a/engine.log"


@pytest.mark.parametrize(
    ("last", "returncode", "expected"),
    [
        (FAILED, 7, Outcome("failed", "no room", "make some", 7)),
        (said("run_stopped", message="the engine was killed", exit_code=137), 137,
         Outcome("stopped", "the engine was killed", None, 137)),
        (said("step"), -signal.SIGTERM, Outcome("stopped", "stopped", None, 143)),
        (said("step"), 7, Outcome("failed", "runs/a could not be written", "free some disk space", 7)),
        (said("step"), 1, Outcome("failed", SILENT, None, 1)),
        (None, -signal.SIGKILL, Outcome("failed", SILENT, None, 1)),
    ],
)  # fmt: skip
def test_the_outcome_of_a_run_follows_from_its_last_event_and_how_its_process_ended(last, returncode, expected):
    run = SimpleNamespace(is_finished=False, path=Path("runs/a"), engine_log=Path("runs/a/engine.log"))
    assert outcome(run, last, returncode) == expected
    run.is_finished = True
    assert outcome(run, last, returncode) == Outcome("finished")
