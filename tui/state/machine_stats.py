"""What the machine says of the engine's process, without rights that a user lacks. No widget in here."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tspin_mlx.runs.lock import holder

_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Stats:
    """The engine's process at a moment.

    Attributes:
        pid: of the engine.
        resident_bytes: its memory as the system counts it.
        cpu_percent: of one core.
        gpu_percent: of the whole GPU, by all programs; None where the system does not tell.
    """

    pid: int
    resident_bytes: int
    cpu_percent: float
    gpu_percent: float | None = None


def stats_of(run: Path) -> Stats | None:
    """The engine of a run; None if nobody works on it, or on another machine."""
    engine = holder(run)
    if engine is None:
        return None
    told = _output(["ps", "-o", "rss=,%cpu=", "-p", str(engine["pid"])])
    gpu = parse_gpu(_output(["ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator"])) if _on_mac() else None
    return parse_process(engine["pid"], told, gpu)


def parse_process(pid: int, told: str, gpu: float | None = None) -> Stats | None:
    """What ``ps -o rss=,%cpu=`` says: kilobytes, and percent of a core."""
    words = told.replace(",", ".").split()
    try:
        return Stats(pid, int(words[0]) * 1024, float(words[1]), gpu)
    except (IndexError, ValueError):
        return None


def parse_gpu(told: str) -> float | None:
    """The busiest GPU's "Device Utilization %" in what ``ioreg`` says of its accelerators."""
    found = re.findall(r'"Device Utilization %"\s*=\s*(\d+)', told)
    return max(map(float, found), default=None)


def _on_mac() -> bool:
    return sys.platform == "darwin"


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
