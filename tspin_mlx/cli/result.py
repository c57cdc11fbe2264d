"""The result of a run: a table of its policies, answers before and after, and what to do next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.text import shorten, signed
from ..evaluation.metrics import HEADINGS
from ..export.ask import first_ask
from ..export.usage import mlx_adapter
from ..jobs.control import command
from ..recipe.policy_names import BASE, BEST, INITIAL, policy_label, policy_name
from ..runs.run import MEASURED, Run
from .output import plain_table


def print_result(run: Run, samples: int | None = None) -> None:
    """Print a run's held-out measures, its best policy and some of its answers on stdout.

    Args:
        samples: how many answers; None is what the run's recipe says.
    """
    console = Console(highlight=False, soft_wrap=False)
    result, test = run.result(), run.test()
    best = result["best"] if result else None
    counts = run.outline.counts
    console.print(_table(f"Validation ({counts['validation']} examples)", run.evaluations(), best, run.outline.warm))
    if test:
        console.print(_table(f"Test ({counts['test']} examples)", test, best, run.outline.warm))
    if result:
        console.print(_verdict(result))
    for note in _notes(run):
        console.print(Text(note, style="yellow"))
    if result:
        samples = run.outline.samples_shown if samples is None else samples
        _print_samples(console, run, best or INITIAL, samples)
        _print_next(console, run, best or INITIAL)


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


def _table(title: str, contents: Mapping[str, Mapping[str, Any]], best: str | None, warm: bool) -> Table:
    measures = {policy_label(folder, warm): content["metrics"] for folder, content in contents.items()}
    return measures_table(title, measures, policy_label(best, warm) if best else None)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return signed(value) if name.startswith("advantage") else f"{value:.3f}"


def _verdict(result: dict[str, Any]) -> Text:
    best, metric = result["best"], result["metric"]
    text = f"\nBest by {metric} on the validation examples: {policy_name(best)}."
    if best == INITIAL:
        text += " Self-play did not improve on where it started."
    if best == BASE:
        text += " Training did not improve on the model as it was."
    return Text(text)


def _notes(run: Run) -> list[str]:
    """What to know before trusting the table."""
    notes = [
        f"After a failure ({made.reason}) it computed {made.sizes.micro_batch_size} triplets and "
        f"{made.sizes.generation_batch_size} answers at once, and recomputed layers where the model can."
        for made in run.decisions()
        if made.reason != MEASURED
    ]
    for folder, content in run.evaluations().items():
        notes += [
            f"{policy_name(folder).capitalize()} shows signs of collapse: {sign}."
            for sign in content["signs_of_collapse"]
        ]
    return notes


def _print_samples(console: Console, run: Run, best: str, samples: int) -> None:
    """The first held-out prompts, with the expert's answer and those of the first and the best policy."""
    kept, prompts = run.test(), run.prompts().test
    if kept is None:
        kept, prompts = run.evaluations(), run.prompts().validation
    before = BASE if BASE in kept else INITIAL
    for i, prompt in enumerate(prompts[:samples]):
        width = max(40, console.width - 12)
        console.print(Text(f"\n{shorten(prompt.text, width)}", style="bold"))
        console.print(Text(f"  expert  {shorten(prompt.annotated.text, width)}", style="dim"))
        for name, folder in (("before", before), ("after", best)):
            console.print(Text(f"  {name:<6}  {shorten(kept[folder]['responses'][i]['text'], width)}"))


def _print_next(console: Console, run: Run, best: str) -> None:
    """The commands to try next."""
    rows = [
        (command("chat", run, "--compare"), "ask it, before and after"),
        (command("watch", run), "its curves and samples"),
    ]
    if best != (BASE if run.outline.warm else INITIAL):
        rows.append((command("push", run, "MODEL-NAME"), "to a private repository on the Hub"))
    wide = max(len(line) for line, _ in rows)
    console.print(Text("\nNext:", style="dim"))
    for line, purpose in rows:
        console.print(Text(f"  {line:<{wide}}  ").append(purpose, style="dim"), soft_wrap=True)
    model = Path(run.about["model"]["path"])
    ask = first_ask(run, model, run.path / BEST)
    python = "python" if shutil.which("python") == sys.executable else sys.executable  # not in an activated environment
    generate = f"{shlex.quote(python)} -m mlx_lm generate"
    way = mlx_adapter(str(model), str(run.path / BEST), ask, generate=generate)
    console.print(Text("\nThe best adapter in mlx-lm:", style="dim"))
    console.print(Text(f"  {way.text}"), soft_wrap=True)
    if way.remark:
        console.print(Text(f"  ({way.remark})", style="yellow"))
