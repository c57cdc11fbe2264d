"""Classify the engine's exit status: exit code, signal, out of memory, GPU watchdog, bug; is it restartable? Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from ..base.errors import ResourcesError
from ..base.stop import STOPPED

Kind = Literal[
    "finished", "reported", "stopped", "out of memory", "Metal's resource limit", "the GPU watchdog",
    "a fault of the GPU", "killed", "bug",
]  # fmt: skip


@dataclass(frozen=True)
class ExitStatus:
    """How the engine's process ended.

    Attributes:
        kind: ``reported`` is a failure that the engine has already written to the event log.
        exit_code: the exit code for the command that waits for it.
        restartable: whether smaller batches may help.
        message, hint: for the event log, if the engine cannot have written them itself.
    """

    kind: Kind
    exit_code: int
    restartable: bool = False
    message: str = ""
    hint: str | None = None


_REPORTED = range(2, 9)  # the exit codes of errors.py

_LESS_MEMORY = (
    "resume it, or start a run that needs less memory: training.grad_checkpoint=true, a smaller "
    "training.micro_batch_size or generation.batch_size, shorter data.max_tokens, fewer lora.layers"
)

WATCHDOG: Kind = "the GPU watchdog"

# Error messages of MLX (on Metal, CUDA and the CPU), Python and Linux.
_SYMPTOMS: tuple[tuple[Kind, tuple[str, ...], str], ...] = (
    (
        "Metal's resource limit",
        ("resource limit",),
        "resume it; to stay below the limit, reduce generation.batch_size or generation.shard_tokens",
    ),
    (
        WATCHDOG,
        (
            "kiogpucommandbuffercallbackerrortimeout",
            "kiogpucommandbuffercallbackerrorsubmissionsignored",  # for buffers after the one that hung
            "gpu timeout",
            "impactinginteractivity",
            "gpu hang",
            "victim of gpu error",
        ),
        "close other programs or let the display sleep, then resume it (see "
        "https://github.com/ml-explore/mlx/issues/3267); a smaller training.micro_batch_size makes GPU tasks shorter",
    ),
    (
        "out of memory",
        (
            "out of memory",
            "outofmemory",
            "insufficient memory",
            "unable to allocate",
            "attempting to allocate",
            "bad_alloc",
            "memoryerror",
        ),
        _LESS_MEMORY,
    ),
    (
        "a fault of the GPU",  # seen when other processes had filled its memory
        ("illegal memory access", "cudamalloc"),
        "resume it with fewer runs at a time, and nothing else on the GPU",
    ),
)


def classify(returncode: int, log: str) -> ExitStatus:
    """Classify how a process ended.

    Args:
        returncode: of :class:`subprocess.Popen`: negative for a signal.
        log: the last lines of its output.
    """
    if returncode == 0:
        return ExitStatus("finished", 0)
    if returncode in STOPPED:
        return ExitStatus("stopped", STOPPED[returncode], message="stopped")
    if returncode in _REPORTED:
        return ExitStatus("reported", returncode)
    text = log.casefold()
    for kind, symptoms, hint in _SYMPTOMS:
        if any(symptom in text for symptom in symptoms):
            return ExitStatus(kind, ResourcesError.exit_code, True, f"the engine stopped: {kind}", hint)
    if returncode == -signal.SIGKILL:
        return ExitStatus(
            "killed",
            128 + signal.SIGKILL,
            message="the engine was killed, perhaps by the system because memory ran out",
        )
    names = {number.value: number.name for number in signal.Signals}
    how = f"signal {names.get(-returncode, -returncode)}" if returncode < 0 else f"exit code {returncode}"
    return ExitStatus(
        "bug",
        1,
        message=f"the engine crashed ({how}): {_last_line(log)}",
        hint="this is a bug in tspin-mlx: please report it with the run's engine.log; resuming is safe",
    )


def _last_line(log: str) -> str:
    """Return the last line of a log; of a faulthandler dump, its first line, which names the reason."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal Python error: ")]
    return next(iter(fatal[-1:] or lines[-1:]), "nothing was logged")
