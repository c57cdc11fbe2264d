"""The result of a run: a table of its policies, answers before and after, and what to do next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.text import shorten, signed
from ..evaluation.metrics import HEADINGS
from ..export.ask import first_ask
from ..export.usage import mlx_adapter
from ..jobs.control import command
from ..recipe.policy_names import BEST
from ..runs.outcome import result_of
from ..runs.run import Run
from .output import plain_table


def print_result(run: Run, samples: int | None = None) -> None:
    """Print a run's held-out measures, its best policy and some of its answers on stdout.

    Args:
        samples: how many answers; None is what the run's recipe says.
    """
    result = result_of(run, samples)
    console = Console(highlight=False)
    for title, measures in result.tables.items():
        console.print(measures_table(title, measures, result.best))
    if result.verdict:
        console.print(Text(f"\n{result.verdict}"))
    for warning in result.warnings:
        console.print(Text(warning, style="yellow"))
    width = max(40, console.width - 12)
    for answers in result.answers:
        console.print(Text(f"\n{shorten(answers.prompt, width)}", style="bold"))
        console.print(Text(f"  expert  {shorten(answers.expert, width)}", style="dim"))
        console.print(Text(f"  before  {shorten(answers.before, width)}"))
        console.print(Text(f"  after   {shorten(answers.after, width)}"))
    if result.best:
        _print_next(console, run, improved=result.improved)


def _print_next(console: Console, run: Run, *, improved: bool) -> None:
    """Print the commands to try next; and, last because it needs the model's folder, one for mlx-lm."""
    rows = [
        (command("chat", run, "--compare"), "ask it, before and after"),
        (command("watch", run), "its curves and samples"),
    ]
    if improved:
        rows.append((command("push", run, "MODEL-NAME"), "to a private repository on the Hub"))
    wide = max(len(line) for line, _ in rows)
    console.print(Text("\nNext:", style="dim"))
    for line, purpose in rows:
        console.print(Text(f"  {line:<{wide}}  ").append(purpose, style="dim"), soft_wrap=True)
    python = "python" if shutil.which("python") == sys.executable else sys.executable  # not in an activated environment
    model, adapter = Path(run.about["model"]["path"]), run.path / BEST
    generate = f"{shlex.quote(python)} -m mlx_lm generate"
    way = mlx_adapter(str(model), str(adapter), first_ask(run, model, adapter), generate=generate)
    console.print(Text("\nThe best adapter in mlx-lm:", style="dim"))
    console.print(Text(f"  {way.text}"), soft_wrap=True)
    if way.remark:
        console.print(Text(f"  ({way.remark})", style="yellow"))


def measures_table(title: str, measures: Mapping[str, Mapping[str, float]], best: str | None = None) -> Table:
    """A table of held-out measures.

    Args:
        measures: by the policy's label.
        best: the label that gets a star.
    """
    names = dict.fromkeys(name for values in measures.values() for name in values if name != "length")
    headings = [HEADINGS.get(name, name) for name in names]
    table = plain_table("", *headings, right=headings)
    table.columns[0].no_wrap = True
    table.title, table.title_justify, table.collapse_padding = title, "left", True
    for label, values in measures.items():
        star, style = ("★ ", "bold") if label == best else ("  ", "")
        table.add_row(Text(star + label), *(_cell(name, values.get(name)) for name in names), style=style)
    return table


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return signed(value) if name.startswith("advantage") else f"{value:.3f}"
