"""``samples``: print the triplets that a run was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Option

from ...base.errors import UsageError
from ...base.text import printable, shorten, signed
from ...runs.run import Run, find_run
from ...runs.samples import iterations_of, ordered, trained_on
from ...view.colours import ON_DARK
from ..options import Folder, Json, RunName
from ..output import print_json


def samples(
    name: RunName,
    iteration: Annotated[int | None, Option(min=0, metavar="N", help="Of iteration N; by default the last.")] = None,
    order: Annotated[
        Literal["current", "historical", "file"],
        Option("--sort", help="The smallest advantage first, or as in the file."),
    ] = "file",
    count: Annotated[int, Option(min=1, help="How many to show.")] = 10,
    folder: Folder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show what an iteration was trained on: prompt, the expert's answer, the model's, and its very first one.

    With each, the log-probability that the first epoch of training saw. Needs no model.

    Example: tspin-mlx samples quickstart --iteration 1 --sort current --count 3
    """
    run = find_run(name, folder)
    chosen = _iteration(run, iteration)
    triplets = ordered(trained_on(run, chosen), order)
    shown = triplets[:count]
    if as_json:
        print_json([sample.to_row() for sample in shown])
        return
    console = Console(highlight=False)
    by = "" if order == "file" else f", the smallest {order} advantage first"
    title = f"Iteration {chosen} of {run.name}: {len(shown)} of {len(triplets)} triplets{by}"
    console.print(Text(printable(title), style="bold"))
    if not triplets[0].logps:
        console.print(Text("Their advantages are not known: the iteration is not trained yet.", style="yellow"))
    for sample in shown:
        prompt = sample.prompt
        console.print()
        console.print(Text(printable(prompt.text, keep_newlines=True), style="bold"))
        if prompt.system:
            console.print(Text(f"system: {shorten(prompt.system, max(20, console.width - 10))}", style="dim"))
        row = sample.to_row()
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold", ratio=1)
        grid.add_column(justify="right", style="dim", no_wrap=True)
        for label, role, response in (
            ("expert", "annotated", prompt.annotated),
            ("synthetic", "synthetic", sample.synthetic),
            ("proto-synthetic", "proto_synthetic", sample.proto_synthetic),
        ):
            if response is not None:
                logp, cut = row[f"{role}_logp"], " … (cut)" if response.finish_reason == "length" else ""
                text = Text(printable(response.text, keep_newlines=True) + cut)
                grid.add_row(label, text, "" if logp is None else f"log π {signed(logp)}")
        console.print(grid)
        advantages = (("current", sample.current), ("historical", sample.historical))
        if known := [f"{name} {signed(value)}" for name, value in advantages if value is not None]:
            console.print(Text("  ".join(["advantage", *known]), style=ON_DARK[0]))


def _iteration(run: Run, wanted: int | None) -> int:
    known = iterations_of(run)
    if not known and run.outline.settings["objective.kind"] == "sft":
        raise UsageError(
            f"the run {run.name!r} has no triplets: objective.kind is sft",
            hint="the expert's answers that it trains on are in its prompts.jsonl",
        )
    if not known:
        raise UsageError(f"the run {run.name!r} has no triplets yet", hint="its first iteration makes them")
    if wanted is None:
        return known[-1]
    if wanted not in known:
        raise UsageError(
            f"the run {run.name!r} has no triplets of iteration {wanted}",
            hint=f"it has those of {', '.join(map(str, known))}",
        )
    return wanted
