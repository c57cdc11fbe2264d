"""``python -m benchmarks step|generation|iteration`` measures one thing in several ways, and prints a table of ratios.

Every measurement is a process of its own; the arms take turns, round after round.
"""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from tspin_mlx.base.machine import keep_freed_memory, on_cpu

from .rounds import rounds, show, write
from .workload import SHAPES, Answering, Workload


def main() -> None:
    """Parse the command line; measure one arm here, or all in processes of their own."""
    options = _parser().parse_args()
    bench: ModuleType = importlib.import_module(f".{options.what}", __package__)
    if options.what == "step":
        work = Workload(options.shape, options.prompt, options.response, options.triplets, options.ragged)
    else:
        work = Answering(options.prompts, options.max_tokens, options.batch, options.mixed)
    if options.one:
        if on_cpu():
            keep_freed_memory()
        print(json.dumps(bench.measure(options.one, work, options.repeat)))
        return
    arms = options.arms.split(",") if options.arms else list(bench.ARMS)
    if unknown := set(arms) - set(bench.ARMS):
        raise SystemExit(f"no such arm: {', '.join(sorted(unknown))}; there are: {', '.join(bench.ARMS)}")
    found = rounds(arms, options.rounds)
    show(str(work), found)
    if options.json:
        write(options.json, asdict(work), found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--arms", metavar="ARM,ARM", help="which, separated by commas; ratios are to the first")
    every.add_argument("--rounds", type=int, default=3)
    every.add_argument("--repeat", type=int, default=2, help="measured in each process, after what compiles")
    every.add_argument("--json", type=Path, help="write what was measured here, too")
    every.add_argument("--one", help=argparse.SUPPRESS)  # measure this arm here, and print it as JSON
    step = parts.add_parser("step", parents=[every], help="one training step on random weights and tokens")
    step.add_argument("--shape", choices=SHAPES, default="135m", help="of the random model")
    step.add_argument("--prompt", type=int, default=200, help="tokens")
    step.add_argument("--response", type=int, default=100, help="tokens")
    step.add_argument("--triplets", type=int, default=4, help="per optimiser step")
    step.add_argument("--ragged", action="store_true", help="draw lengths from half to one and a half of these")
    for name, what in (
        ("generation", "greedy answers of the built-in model to household commands"),
        ("iteration", "answers to all prompts and one epoch of training on them, with the built-in model"),
    ):
        part = parts.add_parser(name, parents=[every], help=what)
        part.add_argument("--prompts", type=int, default=32)
        part.add_argument("--max-tokens", type=int, default=48, help="per answer")
        part.add_argument("--batch", type=int, default=16, help="prompts answered at once")
        part.add_argument("--mixed", action="store_true", help="one to six commands per prompt, for mixed lengths")
    return parser


if __name__ == "__main__":
    main()
