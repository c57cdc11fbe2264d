"""Process statistics of a running engine, from ``ps`` and ``ioreg``, which need no root. No widgets."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tspin_mlx.runs.lock import holder

_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class ProcessStats:
    """The engine's process at one moment.

    Attributes:
        pid: its process id.
        resident_bytes: its resident memory.
        cpu_percent: CPU use, in percent of one core.
        gpu_percent: GPU use by all programs; None where the system does not report it.
    """

    pid: int
    resident_bytes: int
    cpu_percent: float
    gpu_percent: float | None = None


def process_stats(run: Path) -> ProcessStats | None:
    """Return the statistics of the engine of a run; None if no process on this machine works on it."""
    engine = holder(run)
    if engine is None:
        return None
    ps = _output(["ps", "-o", "rss=,%cpu=", "-p", str(engine["pid"])])
    gpu = parse_ioreg(_output(["ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator"])) if _on_mac() else None
    return parse_ps(engine["pid"], ps, gpu)


def parse_ps(pid: int, output: str, gpu_percent: float | None = None) -> ProcessStats | None:
    """Parse the output of ``ps -o rss=,%cpu=``: kilobytes, and percent of a core; None if it is something else."""
    words = output.replace(",", ".").split()
    try:
        return ProcessStats(pid, int(words[0]) * 1024, float(words[1]), gpu_percent)
    except (IndexError, ValueError):
        return None


def parse_ioreg(output: str) -> float | None:
    """Return the "Device Utilization %" of the busiest GPU in the output of ``ioreg``; None if there is none."""
    percentages = re.findall(r'"Device Utilization %"\s*=\s*(\d+)', output)
    return max(map(float, percentages), default=None)


def _on_mac() -> bool:
    return sys.platform == "darwin"


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
