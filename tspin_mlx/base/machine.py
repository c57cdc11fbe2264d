"""Where MLX computes; and what it needs on a Linux CPU to be fast: a good BLAS, and memory that is kept."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

#: Set for the engines of a sweep: how many of them share the machine.
SHARED_BY = "TSPIN_MLX_SHARED_BY"

#: 0 turns notifications off.
NOTIFY = "TSPIN_MLX_NOTIFY"

_WORTH_A_NOTE_S = 60.0
_NOTIFICATION = ("on run argv", 'display notification (item 1 of argv) with title "tspin-mlx"', "end run")

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def preload_openblas() -> None:
    """Put OpenBLAS into the process, before anything imports ``mlx.core``.

    The wheel binds to whichever BLAS is there, else to a reference one that is some fifty times slower.
    """
    if sys.platform != "linux":
        return
    if "mlx.core" not in sys.modules:
        has_openblas()  # works without, slowly; `scripts/install` says how to get it
    elif on_cpu() and not _in_this_process("libopenblas.so") and has_openblas():
        warnings.warn(
            "MLX was imported without OpenBLAS, and computes slowly in this process: import tspin_mlx before mlx",
            RuntimeWarning,
            stacklevel=3,
        )


def _in_this_process(library: str) -> bool:
    """Whether a library is loaded, as Linux has it."""
    try:
        return library in Path("/proc/self/maps").read_text()
    except OSError:
        return True  # nobody can say


def has_openblas() -> bool:
    """Whether OpenBLAS is there; if so, it is in the process from now on."""
    try:
        ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def on_cpu() -> bool:
    """Whether MLX computes on the CPU, where only float32 is fast."""
    import mlx.core as mx

    return not (mx.metal.is_available() or mx.cuda.is_available())


def memory_budget() -> int:
    """Bytes that MLX may use: what Metal recommends, 4/5 of what others leave of a CUDA device, 3/4 of the machine's.

    Runs that a sweep works on at once share it.
    """
    return _budget_of_all() // int(os.environ.get(SHARED_BY, "1"))


def _budget_of_all() -> int:
    import mlx.core as mx

    if mx.metal.is_available():
        return int(mx.device_info()["max_recommended_working_set_size"])
    if mx.cuda.is_available():
        free = int(mx.device_info()["free_memory"]) + mx.get_active_memory() + mx.get_cache_memory()
        return int(free) * 4 // 5  # each process takes some for its own, beside MLX's
    return memory_bytes() * 3 // 4


def device_bytes() -> int:
    """Bytes of memory of the device that MLX computes on, in use or not.

    Unlike the free memory it is the same whenever a run goes on, so that it may decide what is computed.
    """
    import mlx.core as mx

    if on_cpu():
        return memory_bytes()
    known = mx.device_info()
    return int(known.get("max_recommended_working_set_size") or known.get("total_memory") or memory_bytes())


def bound_memory() -> None:
    """On a GPU, keep MLX within the budget: what it frees for reuse to half of it, on macOS to a quarter.

    Nothing is wired down there, see :mod:`tspin_mlx.models.metal`: what MLX keeps for reuse would be wired as well.
    """
    import mlx.core as mx

    if on_cpu():
        return
    budget = memory_budget()
    mx.set_memory_limit(budget)
    mx.set_cache_limit(budget // (4 if mx.metal.is_available() else 2))


def device_name() -> str:
    """What MLX computes on, as its maker calls it."""
    import mlx.core as mx

    name = str(mx.device_info().get("device_name") or platform.machine())
    return f"{name}, CPU" if on_cpu() else name


def memory_bytes() -> int:
    """All memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def awake(pid: int | None = None) -> Iterator[None]:
    """On macOS, keep the system (not its display) from sleeping while a process lives, by default this one."""
    if sys.platform != "darwin" or shutil.which("caffeinate") is None:
        yield
        return
    guardian = subprocess.Popen(["caffeinate", "-i", "-s", "-w", str(pid or os.getpid())], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        guardian.terminate()
        guardian.wait()


def notify(text: str, took_s: float) -> None:
    """On macOS, a notification; waits for nothing.

    Nothing if ``$TSPIN_MLX_NOTIFY`` is 0, if it cannot be shown, or of what took less than a minute.
    """
    if sys.platform != "darwin" or os.environ.get(NOTIFY) == "0" or took_s < _WORTH_A_NOTE_S:
        return
    words = [*(word for line in _NOTIFICATION for word in ("-e", line)), text]
    in_background = 'osascript "$@" >/dev/null 2>&1 &'
    with contextlib.suppress(OSError):
        subprocess.run(["/bin/sh", "-c", in_background, "sh", *words], stdin=subprocess.DEVNULL, check=False)


def keep_freed_memory() -> None:
    """Let glibc reuse memory instead of giving it back to the system.

    MLX's CPU backend has no cache of its own: every activation is a malloc and a free of some megabytes, which by
    default means fresh pages each time. Keeping them made training 1.15 times faster (SmolLM2-135M, two x86 cores).
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 2**28)
