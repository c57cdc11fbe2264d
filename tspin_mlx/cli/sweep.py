"""``sweep``: a recipe over settings and seeds."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import Signals
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ..base.machine import notify
from ..base.stop import EXIT_CODES
from ..base.text import duration
from ..recipe.policy_names import policy_name
from ..runs.summary import summary
from ..sweeps.members import Member, load_sweep
from ..sweeps.runner import Change, Sweeping, alone
from .compare import comparison_row, print_comparison
from .console import say
from .follow import forwarding
from .options import print_json

_WIDE = 240  # characters; names are not cut


def run_sweep(
    file: Path, overrides: list[str], folder: Path, jobs: int, *, dry_run: bool, as_json: bool, trusted: bool
) -> None:
    """Check every combination, then run what is not finished; progress goes to stderr, the comparison to stdout."""
    tell: Callable[[str], None] = (lambda text: None) if as_json else say
    members = load_sweep(file, folder, overrides, trusted=trusted)
    done = sum(member.is_finished for member in members)
    tell(f"sweep    {folder / file.stem}: {len(members)} runs, {done} of them finished\n")
    if dry_run:
        _show_plan(members, as_json=as_json)
        return
    changes = _Changes(tell)
    sweeping = Sweeping(members, jobs, changes.hear, trusted=trusted)
    with alone(folder / file.stem), forwarding(sweeping.paths, tell) as signals:
        sweeping.work(lambda: bool(signals))
    if as_json:
        runs = [member.run for member in members if member.exists]
        print_json({"runs": _rows(members), **comparison_row(runs)})
    if signals:
        way_on = ["tspin-mlx", "sweep", str(file), *(f"--set={override}" for override in overrides)]
        way_on += [] if folder == Path("runs") else ["--folder", str(folder)]
        way_on += [] if jobs == 1 else ["--jobs", str(jobs)]
        say(f"\nstopped; what is finished is kept; to go on: {shlex.join(way_on)}")
        raise typer.Exit(EXIT_CODES[Signals(signals[0])])
    if not as_json:
        _show_results(members)
    failed = f", {len(changes.failures)} runs failed" if changes.failures else ""
    notify(f"the sweep {file.stem} has ended{failed}", time.monotonic() - changes.begun)
    if changes.failures:
        say(f"\n{len(changes.failures)} of {len(members)} runs did not finish; the same command tries them again")
        raise typer.Exit(changes.failures[0].exit_code or 1)


class _Changes:
    """Says what happens to the runs, a line each."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self.begun = tell, time.monotonic()
        self.failures: list[Change] = []

    def hear(self, change: Change) -> None:
        now = duration(time.monotonic() - self.begun)
        parts = [f"{now:>7}  {change.what:<8}  {change.member.name}"]
        if change.what == "finished":
            parts += [f"in {duration(change.elapsed_s)}", _best(change.member)]
        if change.detail:
            parts.append(change.detail)
        self._tell("  ".join(parts))
        if change.what in ("failed", "stopped"):
            self.failures.append(change)
            if change.hint:
                self._tell(f"{'':>9}→ {change.hint}")


def _best(member: Member) -> str:
    row = summary(member.checked.path)
    return f"{policy_name(row['best'])} is best: {row['metric']} {row['value']:.3f}"


def _show_plan(members: Sequence[Member], *, as_json: bool) -> None:
    rows = _rows(members)
    if as_json:
        print_json({"runs": rows})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("run", "state", "steps", "phases", "made by another run"):
        table.add_column(heading, justify="right" if heading in ("steps", "phases") else "left", no_wrap=True)
    for number, (row, member) in enumerate(zip(rows, members, strict=True)):
        table.add_row(row["name"], row["state"], str(row["steps"]), str(member.phases), _others(members, number))
    Console(highlight=False, width=_WIDE).print(table)
    say("\nall of them are valid; nothing was written")


def _others(members: Sequence[Member], number: int) -> str:
    """What a run that is still to be made will find done, if they are made one after another."""
    member, others = members[number], [other for other in members if other.exists] + list(members[:number])
    if member.exists or not others:
        return ""
    count, origin = max(((len(member.shared(other)), other) for other in others), key=lambda pair: pair[0])
    return f"{count}, by {origin.name}" if count else ""


def _show_results(members: Sequence[Member]) -> None:
    if runs := [member.run for member in members if member.exists]:
        typer.echo()
        print_comparison(runs)


def _rows(members: Sequence[Member]) -> list[dict[str, Any]]:
    return [_row(member) for member in members]


def _row(member: Member) -> dict[str, Any]:
    about = {
        "name": member.name,
        "arm": member.combination.arm,
        "varied": member.combination.varied,
        "path": str(member.checked.path),
        "steps": member.checked.plan.steps,
    }
    if not member.exists:
        return {**about, "state": "not started"}
    found = summary(member.checked.path)
    origin = member.run.about["forked_from"]
    return {**about, **{name: found[name] for name in ("state", "best", "metric", "value")}, "forked_from": origin}
