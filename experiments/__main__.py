"""``python -m experiments COMMAND``: experiments that test the claims of the T-SPIN paper.

``data`` makes the examples of a task, ``tspin-mlx sweep`` runs one of the sweeps beside this file, ``collect`` gathers
what its runs came to in one small file, ``table`` and ``chart`` show that; ``choose`` takes the best of a search.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import DataError, TspinError

from . import sweeps
from .outcomes import collect
from .tables import Row, markdown, picture
from .tasks import TASKS, Sizes, write

_HERE = Path(__file__).parent


def main() -> None:
    """Parse the command line, and do it."""
    options = _parser().parse_args()
    try:
        options.do(options)
    except TspinError as error:
        sys.exit(f"{error.message}\n→ {error.hint}" if error.hint else error.message)


def _data(options: argparse.Namespace) -> None:
    folder = options.out or _HERE / "data" / options.task
    sizes = Sizes(options.train, options.validation, options.test)
    counts = write(options.task, folder, sizes, options.seed, options.source)
    print(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


def _sweeps(options: argparse.Namespace) -> None:
    for task in sweeps.TASKS:
        filesystem.write_text(_HERE / f"{task}-search.yaml", sweeps.search(task))


def _choose(options: argparse.Namespace) -> None:
    for sweep, rows in _by_sweep(options.file).items():
        task, choice = sweep.removesuffix("-search"), sweeps.choose(rows)
        filesystem.write_text(_HERE / f"{task}-full.yaml", sweeps.sweep(task, choice))
        print(f"{_HERE / f'{task}-full.yaml'}: passes {choice.passes}, rates {choice.rates}")


def _collect(options: argparse.Namespace) -> None:
    found = collect(options.folders)
    filesystem.write_json(options.json, found)
    print(f"{options.json}: {len(found['runs'])} finished runs; {len(found['unfinished'])} are not finished")


def _table(options: argparse.Namespace) -> None:
    for sweep, rows in _by_sweep(options.file).items():
        print(f"### {sweep}\n\n{markdown(rows, options.metric)}")


def _chart(options: argparse.Namespace) -> None:
    for sweep, rows in _by_sweep(options.file).items():
        path = options.out / f"{sweep}.svg"
        filesystem.write_text(path, picture(rows, options.metric, options.arms and options.arms.split(",")))
        print(path)


def _by_sweep(file: Path) -> dict[str, list[Row]]:
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{file}: not a file that `collect` has made") from None
    found: dict[str, list[Row]] = {}
    for row in runs:
        found.setdefault(row["sweep"], []).append(row)
    return found


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__, formatter_class=plain)
    parts = parser.add_subparsers(required=True)
    tasks = "\n".join(f"{name}\n    {task.about}" for name, task in TASKS.items())
    data = parts.add_parser("data", help="make the examples of a task", epilog=tasks, formatter_class=plain)
    data.set_defaults(do=_data)
    data.add_argument("task", choices=TASKS)
    data.add_argument("--out", type=Path, metavar="FOLDER", help="for the three files; where the recipes expect them")
    data.add_argument("--source", type=Path, metavar="PATH", help="a local copy, for tasks that need one")
    data.add_argument("--train", type=int, default=Sizes.train, help="rows (%(default)s)")
    data.add_argument("--validation", type=int, default=Sizes.validation, help="rows (%(default)s)")
    data.add_argument("--test", type=int, default=Sizes.test, help="rows, at most (%(default)s)")
    data.add_argument("--seed", type=int, default=0, help="of what is drawn (%(default)s)")
    written = parts.add_parser("sweeps", help="write the searches of all tasks anew, TASK-search.yaml")
    written.set_defaults(do=_sweeps)
    gather = parts.add_parser("collect", help="gather what finished runs came to")
    gather.set_defaults(do=_collect)
    gather.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="of a run, or of a sweep's runs")
    gather.add_argument("--json", type=Path, required=True, metavar="FILE")
    chosen = parts.add_parser("choose", help="write TASK-full.yaml with what was best in TASK-search")
    chosen.set_defaults(do=_choose)
    chosen.add_argument("file", type=Path, metavar="FILE", help="made by collect")
    shown = argparse.ArgumentParser(add_help=False)
    shown.add_argument("file", type=Path, metavar="FILE", help="made by collect")
    shown.add_argument("--metric", help="a held-out measure; else the one by which the best policy was chosen")
    table = parts.add_parser("table", parents=[shown], help="print Markdown tables, sweep by sweep")
    table.set_defaults(do=_table)
    chart = parts.add_parser("chart", parents=[shown], help="draw the measure over the iterations: SWEEP.svg")
    chart.set_defaults(do=_chart)
    chart.add_argument("--arms", metavar="ARM,ARM", help="which; else those that use all prompts")
    chart.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="for the pictures (here)")
    return parser


if __name__ == "__main__":
    main()
