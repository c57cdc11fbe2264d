"""``sweep``: run a recipe over settings and seeds."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer import Argument, Option

from ...base.machine import notify
from ...base.text import duration
from ...recipe.policy_names import policy_name
from ..console import say
from ..options import Folder, Json, TrustRemoteCode
from ..output import plain_table, print_json

if TYPE_CHECKING:
    from ...sweeps.members import Member

_WIDE = 240  # characters, so that names are not cut


def sweep(
    file: Annotated[Path, Argument(help="YAML file with a recipe, arms and lists of values.", metavar="FILE")],
    folder: Folder = Path("runs"),
    jobs: Annotated[int, Option(min=1, metavar="N", help="Runs side by side.")] = 1,
    dry_run: Annotated[bool, Option("--dry-run", help="Check every run and list them; write nothing.")] = False,
    as_json: Json = False,
    overrides: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="Change all runs; of a varied key, this value only."),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run a recipe over settings and seeds, and compare; the same command again resumes it.

    Phases that runs share are computed once. The runs are in FOLDER/NAME, where NAME is the file's name without
    its ending; `runs compare NAME` shows the table again.

    The file, such as rates.yaml:

        recipe: my-task.yaml
        set: {training.iterations: 2}
        vary: {training.learning_rate: [1e-5, 5e-5], run.seed: [0, 1, 2]}

    Example: tspin-mlx sweep rates.yaml --dry-run

    Example: tspin-mlx sweep rates.yaml --jobs 2 --set training.iterations=2
    """
    from ...base.stop import EXIT_CODES
    from ...runs.summary import summary
    from ...sweeps.members import load_sweep
    from ...sweeps.runner import Change, Sweeping, alone
    from ..comparison import comparison_row, print_comparison
    from ..follow import forwarding

    overrides = overrides or []
    print_message: Callable[[str], None] = (lambda text: None) if as_json else say
    members = load_sweep(file, folder, overrides, trusted=trust_remote_code)
    done = sum(member.is_finished for member in members)
    print_message(f"sweep    {folder / file.stem}: {len(members)} runs, {done} of them finished\n")
    if dry_run:
        _show_plan(members, as_json=as_json)
        return
    begun, failures = time.monotonic(), list[Change]()

    def show(change: Change) -> None:
        parts = [f"{duration(time.monotonic() - begun):>7}  {change.what:<8}  {change.member.name}"]
        if change.what == "finished":
            row = summary(change.member.checked.path)
            best = f"{policy_name(row['best'])} is best: {row['metric']} {row['value']:.3f}"
            parts += [f"in {duration(change.elapsed_s)}", best]
        if change.detail:
            parts.append(change.detail)
        print_message("  ".join(parts))
        if change.what in ("failed", "stopped"):
            failures.append(change)
            if change.hint:
                print_message(f"{'':>9}→ {change.hint}")

    sweeping = Sweeping(members, jobs, show, trusted=trust_remote_code)
    with alone(folder / file.stem), forwarding(sweeping.paths, print_message) as signals:
        sweeping.work(lambda: bool(signals))
    made = [member.run for member in members if member.exists]
    if as_json:
        print_json({"runs": [_row(member) for member in members], **comparison_row(made)})
    if signals:
        again = ["tspin-mlx", "sweep", str(file), *(f"--set={override}" for override in overrides)]
        again += [] if folder == Path("runs") else ["--folder", str(folder)]
        again += [] if jobs == 1 else ["--jobs", str(jobs)]
        say(f"\nstopped; finished work is kept; to resume: {shlex.join(again)}")
        raise typer.Exit(EXIT_CODES[Signals(signals[0])])
    if made and not as_json:
        typer.echo()
        print_comparison(made)
    failed = f", {len(failures)} runs failed" if failures else ""
    notify(f"the sweep {file.stem} has ended{failed}", time.monotonic() - begun)
    if failures:
        say(f"\n{len(failures)} of {len(members)} runs did not finish; the same command tries them again")
        raise typer.Exit(failures[0].exit_code or 1)


def _show_plan(members: Sequence[Member], *, as_json: bool) -> None:
    rows = [_row(member) for member in members]
    if as_json:
        print_json({"runs": rows})
        return
    headings = ("run", "state", "steps", "phases", "made by another run")
    table = plain_table(*headings, right=("steps", "phases"), no_wrap=True)
    for number, (row, member) in enumerate(zip(rows, members, strict=True)):
        # The phases that a new run finds done, if the runs are made one after another.
        others = [] if member.exists else [other for other in members if other.exists] + list(members[:number])
        shared = [(len(member.shared(other)), other.name) for other in others]
        count, origin = max(shared, key=lambda pair: pair[0], default=(0, ""))
        reused = f"{count}, by {origin}" if count else ""
        table.add_row(row["name"], row["state"], str(row["steps"]), str(member.phases), reused)
    Console(highlight=False, width=_WIDE).print(table)
    say("\nall of them are valid; nothing was written")


def _row(member: Member) -> dict[str, Any]:
    from ...runs.summary import summary

    about = {
        "name": member.name,
        "arm": member.combination.arm,
        "varied": member.combination.varied,
        "path": str(member.checked.path),
        "steps": member.checked.plan.steps,
    }
    if not member.exists:
        return {**about, "state": "not started"}
    row = summary(member.checked.path)
    origin = member.run.about["forked_from"]
    return {**about, **{name: row[name] for name in ("state", "best", "metric", "value")}, "forked_from": origin}
