"""How it is measured: each arm in a process of its own, in turns, round after round, and what the table shows.

A busy minute of the machine falls on all arms. Figures are medians over the rounds.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from rich.console import Console
from rich.table import Table

from tspin_mlx.base.machine import on_cpu

#: What one process gives for its arm: ``seconds`` (a list), ``peak_bytes``, and more as far as the arm knows it:
#: ``flops`` with ``peak_matmul`` (FLOP/s), ``tokens``, ``answers`` (a digest), ``active_bytes`` (a list).
Measured = dict[str, Any]


def rounds(arms: Sequence[str], count: int) -> dict[str, list[Measured]]:
    """Measure all arms, one after another, so many times: this command again, with ``--one ARM``."""
    found: dict[str, list[Measured]] = {arm: [] for arm in arms}
    for number in range(count):
        for arm in arms:
            print(f"round {number + 1}/{count}: {arm}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--one", arm]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{arm} failed:\n{done.stderr}")
            found[arm].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def show(title: str, found: dict[str, list[Measured]]) -> None:
    """A table; ratios are to the first arm."""
    first = next(iter(found.values()))
    columns = {"s": _seconds, "spread": _spread, "x": lambda one: f"{middle(one) / middle(first):.2f}"}
    if "flops" in first[0]:
        columns["FLOP x"] = lambda one: f"{one[0]['flops'] / first[0]['flops']:.2f}"
        columns["of matmul"] = _share_of_bound
    if "tokens" in first[0]:
        columns["tokens/s"] = lambda one: f"{one[0]['tokens'] / middle(one):.1f}"
    columns["peak MiB"] = lambda one: f"{peak(one) / 2**20:.0f}"
    columns["peak x"] = lambda one: f"{peak(one) / peak(first):.2f}"
    if "resting_bytes" in first[0]:
        columns["above weights"] = lambda one: f"{above(one) / 2**20:.0f}"
        columns["above x"] = lambda one: f"{above(one) / above(first):.2f}"
    if "answers" in first[0]:
        columns["same answers"] = lambda one: "yes" if one[0]["answers"] == first[0]["answers"] else "no"
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    table.add_column("arm")
    for heading in columns:
        table.add_column(heading, justify="right")
    for arm, measured in found.items():
        table.add_row(arm, *(cell(measured) for cell in columns.values()))
    Console(width=120).print(table)


def write(path: Path, workload: dict[str, Any], found: dict[str, list[Measured]]) -> None:
    """All that was measured, and on what."""
    about = {"machine": platform.machine(), "system": platform.system(), "device": str(mx.default_device())}
    content = {"workload": workload, "about": {**about, "mlx": mx.__version__}, "arms": found}
    path.write_text(json.dumps(content, indent=2) + "\n")


def middle(measured: list[Measured]) -> float:
    """Median over the rounds of the median of what one process measured, in seconds."""
    return statistics.median(statistics.median(one["seconds"]) for one in measured)


def peak(measured: list[Measured]) -> float:
    """Median peak memory, bytes."""
    return statistics.median(one["peak_bytes"] for one in measured)


def above(measured: list[Measured]) -> float:
    """Median peak memory beside what was there before the first step, bytes."""
    return statistics.median(one["peak_bytes"] - one["resting_bytes"] for one in measured)


def _seconds(measured: list[Measured]) -> str:
    return f"{middle(measured):.2f}"


def _spread(measured: list[Measured]) -> str:
    seconds = [value for one in measured for value in one["seconds"]]
    return f"{min(seconds):.2f}-{max(seconds):.2f}"


def _share_of_bound(measured: list[Measured]) -> str:
    bound = statistics.median(one["flops"] / one["peak_matmul"] for one in measured)
    return f"{bound / middle(measured):.0%}"


def peak_matmul(size: int = 1536) -> float:
    """The best matrix product seen here, in FLOP/s: what no step can exceed."""
    kind = mx.float32 if on_cpu() else mx.bfloat16
    a, b = (mx.random.normal((size, size)).astype(kind) for _ in range(2))
    mx.eval(a, b)
    best = 0.0
    for _ in range(8):
        begun = time.perf_counter()
        mx.eval(a @ b)
        best = max(best, 2 * size**3 / (time.perf_counter() - begun))
    return best
