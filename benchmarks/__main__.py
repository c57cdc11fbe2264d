"""``python -m benchmarks step`` measures one training step in several ways, and prints a table of ratios.

Every measurement is a process of its own; the arms take turns, round after round, so that a busy minute of the
machine falls on all of them. Figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
from rich.console import Console
from rich.table import Table

from tspin_mlx.machine import keep_freed_memory, on_cpu

from .step import ARMS, measure
from .workload import SHAPES, Workload


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=["step"])
    parser.add_argument("--shape", choices=SHAPES, default="135m", help="of the random model")
    parser.add_argument("--prompt", type=int, default=200, help="tokens")
    parser.add_argument("--response", type=int, default=100, help="tokens")
    parser.add_argument("--triplets", type=int, default=4, help="per optimiser step")
    parser.add_argument("--ragged", action="store_true", help="draw lengths from half to one and a half of these")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), metavar="ARM", help=f"of: {', '.join(ARMS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="measured in each process, after one that compiles")
    parser.add_argument("--json", type=Path, help="write what was measured here, too")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # measure this arm here, and print it as JSON
    options = parser.parse_args()
    work = Workload(options.shape, options.prompt, options.response, options.triplets, options.ragged)
    if options.one:
        if on_cpu():
            keep_freed_memory()
        print(json.dumps({**measure(options.one, work, options.steps), "peak_matmul": peak_matmul()}))
        return
    found = rounds(options.arms, options.rounds)
    show(work, found)
    if options.json:
        about = {"machine": platform.machine(), "system": platform.system(), "device": str(mx.default_device())}
        content = {"workload": work.to_row(), "about": {**about, "mlx": mx.__version__}, "arms": found}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


def rounds(arms: list[str], count: int) -> dict[str, list[dict[str, Any]]]:
    """Measure all arms, one after another, so many times."""
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for number in range(count):
        for arm in arms:
            print(f"round {number + 1}/{count}: {arm}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--one", arm]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{arm} failed:\n{done.stderr}")
            found[arm].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def show(work: Workload, found: dict[str, list[dict[str, Any]]]) -> None:
    """A table; ratios are to the first arm."""
    table = Table(title=f"{work}", title_justify="left", box=None, header_style="dim")
    for heading in ("arm", "s", "spread", "x", "FLOP x", "of matmul", "peak MiB", "x"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    first = next(iter(found.values()))
    for arm, measured in found.items():
        seconds = [value for one in measured for value in one["seconds"]]
        bound = statistics.median(one["flops"] / one["peak_matmul"] for one in measured)
        table.add_row(
            arm,
            f"{middle(measured):.2f}",
            f"{min(seconds):.2f}-{max(seconds):.2f}",
            f"{middle(measured) / middle(first):.2f}",
            f"{measured[0]['flops'] / first[0]['flops']:.2f}",
            f"{bound / middle(measured):.0%}",
            f"{peak(measured) / 2**20:.0f}",
            f"{peak(measured) / peak(first):.2f}",
        )
    Console(width=110).print(table)


def middle(measured: list[dict[str, Any]]) -> float:
    """Median over the rounds of the median step."""
    return statistics.median(statistics.median(one["seconds"]) for one in measured)


def peak(measured: list[dict[str, Any]]) -> float:
    """Median peak memory, bytes."""
    return statistics.median(one["peak_bytes"] for one in measured)


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


if __name__ == "__main__":
    main()
