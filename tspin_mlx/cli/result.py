"""How a run went: a table of its policies, answers before and after, and what to do next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
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


def print_result(run: Run, samples: int) -> None:
    """Print a run's held-out measures, its best policy and some of its answers on stdout."""
    console = Console(highlight=False, soft_wrap=False)
    result, test = run.result(), run.test()
    best = result["best"] if result else None
    warm = run.warm
    validation = {name: content["metrics"] for name, content in run.evaluations().items()}
    counts = run.outline.counts
    console.print(_table(f"Validation ({counts['validation']} examples)", validation, best, warm))
    if test:
        console.print(_table(f"Test ({counts['test']} examples)", _metrics(test), best, warm))
    if result:
        console.print(_verdict(result))
    for note in _notes(run):
        console.print(Text(note, style="yellow"))
    if result:
        _print_samples(console, run, best or INITIAL, samples)
        _print_next(console, run, best or INITIAL, warm)


def skipped_line(skipped: Sequence[str]) -> str:
    """That rows were left out, and why the first."""
    return f"skipped  {len(skipped)} rows, the first: {shorten(skipped[0], 90)}"


def _table(title: str, measures: dict[str, dict[str, float]], best: str | None, warm: bool) -> Table:
    labelled = {policy_label(folder, warm): values for folder, values in measures.items()}
    return measures_table(title, labelled, policy_label(best, warm) if best else None)


def measures_table(title: str, measures: dict[str, dict[str, float]], best: str | None = None) -> Table:
    """A table of held-out measures.

    Args:
        measures: by the policy's label.
        best: the label that gets a star.
    """
    names = [name for name in next(iter(measures.values()), {}) if name != "length"]
    for values in measures.values():
        names += [name for name in values if name not in (*names, "length")]
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        header_style="dim",
    )
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(HEADINGS.get(name, name), justify="right")
    for label, values in measures.items():
        chosen = label == best
        heading = Text(("★ " if chosen else "  ") + label)
        table.add_row(heading, *(_cell(key, values.get(key)) for key in names), style="bold" if chosen else "")
    return table


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return signed(value) if name.startswith("advantage") else f"{value:.3f}"


def _metrics(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: part["metrics"] for name, part in content.items()}


def _verdict(result: dict[str, Any]) -> Text:
    best, metric = result["best"], result["metric"]
    text = f"\nBest by {metric} on the validation examples: {policy_name(best)}."
    if best == INITIAL:
        text += " Self-play did not improve on where it started."
    if best == BASE:
        text += " Training did not improve on the model as it was."
    return Text(text)


def _notes(run: Run) -> list[str]:
    """What one should know before trusting the table."""
    notes = [
        f"Since a failure ({made.reason}) it computed {made.sizes.micro_batch_size} triplets and "
        f"{made.sizes.generation_batch_size} answers at once, and layers again where the model can."
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


def _python() -> str:
    """How to call this Python: an environment that was not activated has no short name."""
    return "python" if shutil.which("python") == sys.executable else sys.executable


def _print_next(console: Console, run: Run, best: str, warm: bool) -> None:
    """The commands with which one goes on."""
    rows = [
        (command("chat", run, "--compare"), "ask it, before and after"),
        (command("watch", run), "its curves and samples"),
    ]
    if best != (BASE if warm else INITIAL):
        rows.append((command("push", run, "MODEL-NAME"), "to a private repository on the Hub"))
    wide = max(len(line) for line, _ in rows)
    console.print(Text("\nGo on:", style="dim"))
    for line, what in rows:
        console.print(Text(f"  {line:<{wide}}  ").append(what, style="dim"), soft_wrap=True)
    model = Path(run.about["model"]["path"])
    ask = first_ask(run, model, run.path / BEST)
    generate = f"{shlex.quote(_python())} -m mlx_lm generate"
    way = mlx_adapter(str(model), str(run.path / BEST), ask, generate=generate)
    console.print(Text("\nThe best adapter in mlx-lm:", style="dim"))
    console.print(Text(f"  {way.text}"), soft_wrap=True)
    if way.remark:
        console.print(Text(f"  ({way.remark})", style="yellow"))
