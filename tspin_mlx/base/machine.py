"""The machine: device and memory budget of MLX, OpenBLAS and malloc on Linux, sleep and notifications on macOS."""

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
    """Load OpenBLAS into the process before anything imports ``mlx.core``.

    The wheel binds to whichever BLAS is loaded, else to a reference BLAS that is about fifty times slower.
    """
    if sys.platform != "linux":
        return
    if "mlx.core" not in sys.modules:
        has_openblas()  # MLX works without it, slowly; `scripts/install` says how to get it
    elif on_cpu() and not _in_this_process("libopenblas.so") and has_openblas():
        warnings.warn(
            "MLX was imported without OpenBLAS and is slow in this process: import tspin_mlx before mlx",
            RuntimeWarning,
            stacklevel=3,
        )


def _in_this_process(library: str) -> bool:
    """Return whether a shared library is loaded; True if Linux does not say."""
    try:
        return library in Path("/proc/self/maps").read_text()
    except OSError:
        return True


def has_openblas() -> bool:
    """Return whether OpenBLAS is installed, and load it into the process if it is."""
    try:
        ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def on_cpu() -> bool:
    """Return whether MLX computes on the CPU, where only float32 is fast."""
    import mlx.core as mx

    return not (mx.metal.is_available() or mx.cuda.is_available())


def memory_budget() -> int:
    """Return how many bytes MLX may use; runs that a sweep trains at the same time share them.

    That is Metal's recommended working set, or 4/5 of a CUDA device's free memory, or 3/4 of the machine's memory.
    """
    return _budget_of_all() // int(os.environ.get(SHARED_BY, "1"))


def _budget_of_all() -> int:
    import mlx.core as mx

    if mx.metal.is_available():
        return int(mx.device_info()["max_recommended_working_set_size"])
    if mx.cuda.is_available():
        free = int(mx.device_info()["free_memory"]) + mx.get_active_memory() + mx.get_cache_memory()
        return int(free) * 4 // 5  # CUDA needs some for each process, besides MLX's
    return memory_bytes() * 3 // 4


def device_bytes() -> int:
    """Return the total memory of MLX's device in bytes, in use or not.

    Unlike the free memory it is the same whenever a run is resumed, so results may depend on it.
    """
    import mlx.core as mx

    if on_cpu():
        return memory_bytes()
    info = mx.device_info()
    return int(info.get("max_recommended_working_set_size") or info.get("total_memory") or memory_bytes())


def bound_memory() -> None:
    """Limit MLX's memory on a GPU to the budget, and its buffer cache to half of that, on macOS to a quarter.

    The cache would count as wired memory too, so nothing is wired, see :mod:`tspin_mlx.models.metal`.
    """
    import mlx.core as mx

    if on_cpu():
        return
    budget = memory_budget()
    mx.set_memory_limit(budget)
    mx.set_cache_limit(budget // (4 if mx.metal.is_available() else 2))


def device_name() -> str:
    """Return the maker's name of MLX's device."""
    import mlx.core as mx

    name = str(mx.device_info().get("device_name") or platform.machine())
    return f"{name}, CPU" if on_cpu() else name


def memory_bytes() -> int:
    """Return the machine's total memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def awake(pid: int | None = None) -> Iterator[None]:
    """Keep macOS (not the display) from sleeping while a process lives, by default this one."""
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
    """Show a notification on macOS, without waiting for it.

    Do nothing if ``$TSPIN_MLX_NOTIFY`` is 0, if it cannot be shown, or if ``took_s`` is less than a minute.
    """
    if sys.platform != "darwin" or os.environ.get(NOTIFY) == "0" or took_s < _WORTH_A_NOTE_S:
        return
    words = [*(word for line in _NOTIFICATION for word in ("-e", line)), text]
    in_background = 'osascript "$@" >/dev/null 2>&1 &'
    with contextlib.suppress(OSError):
        subprocess.run(["/bin/sh", "-c", in_background, "sh", *words], stdin=subprocess.DEVNULL, check=False)


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory instead of returning it to the system.

    MLX's CPU backend has no buffer cache: every activation is a malloc and a free of some megabytes, which by default
    means fresh pages each time. Keeping them made training 1.15 times faster (SmolLM2-135M, two x86 cores).
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 2**28)
