"""How the engine's process ended, and whether it is worth starting it again. Pure."""

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
    """The end of a process.

    Attributes:
        kind: ``reported`` is a failure that the engine has written into the event log itself.
        exit_code: what the command that waits for it should return.
        restartable: less computed at once may help.
        message, hint: for the event log, as far as the engine cannot have written them itself.
    """

    kind: Kind
    exit_code: int
    restartable: bool = False
    message: str = ""
    hint: str | None = None


_REPORTED = range(2, 9)  # the exit codes of errors.py


_LESS_MEMORY = (
    "resume with what it has, or start a run that needs less: training.memory=lean, a smaller "
    "training.micro_batch_size or generation.batch_size, shorter data.max_tokens, fewer lora.layers"
)

WATCHDOG: Kind = "the GPU watchdog"

# What MLX says, on Metal, CUDA and the CPU; and Python, and Linux.
_SYMPTOMS: tuple[tuple[Kind, tuple[str, ...], str], ...] = (
    (
        "Metal's resource limit",
        ("resource limit",),
        "resume it; a smaller generation.batch_size or generation.shard_tokens keeps below the limit",
    ),
    (
        WATCHDOG,
        (
            "kiogpucommandbuffercallbackerrortimeout",
            "kiogpucommandbuffercallbackerrorsubmissionsignored",  # of buffers after the one that hung
            "gpu timeout",
            "impactinginteractivity",
            "gpu hang",
            "victim of gpu error",
        ),
        "resume it with other programs closed, or with the display asleep "
        "(https://github.com/ml-explore/mlx/issues/3267); a smaller training.micro_batch_size gives the GPU shorter "
        "tasks",
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
        "a fault of the GPU",  # seen where other processes had filled its memory
        ("illegal memory access", "cudamalloc"),
        "resume it with fewer runs at once, and nothing else on the GPU",
    ),
)


def classify(returncode: int, log: str) -> ExitStatus:
    """Tell how a process ended.

    Args:
        returncode: as :class:`subprocess.Popen` gives it: negative is a signal.
        log: the last lines of what it wrote.
    """
    if returncode == 0:
        return ExitStatus("finished", 0)
    if returncode in STOPPED:
        return ExitStatus("stopped", STOPPED[returncode], message="stopped")
    if returncode in _REPORTED:
        return ExitStatus("reported", returncode)
    words = log.casefold()
    for kind, symptoms, hint in _SYMPTOMS:
        if any(symptom in words for symptom in symptoms):
            return ExitStatus(kind, ResourcesError.exit_code, True, f"the engine stopped: {kind}", hint)
    if returncode == -signal.SIGKILL:
        return ExitStatus(
            "killed",
            128 + signal.SIGKILL,
            message="the engine was killed: if not by a person, by the system, as it does when memory runs out",
        )
    names = {number.value: number.name for number in signal.Signals}
    how = f"signal {names.get(-returncode, -returncode)}" if returncode < 0 else f"exit code {returncode}"
    return ExitStatus(
        "bug",
        1,
        message=f"the engine crashed ({how}): {_last_words(log)}",
        hint="this is a bug of tspin-mlx: please report it with the run's engine.log; resuming is safe",
    )


def _last_words(log: str) -> str:
    """The last line of a log; of what faulthandler dumps after a signal, the first one, which names the reason."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal Python error: ")]
    return next(iter(fatal[-1:] or lines[-1:]), "nothing was logged")
