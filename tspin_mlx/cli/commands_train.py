"""Commands that train: plan, start, watch, stop, go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Detach,
    Json,
    Overrides,
    Plain,
    RecipeName,
    ReportTo,
    RunName,
    RunsFolder,
    StopAfter,
    TrustRemoteCode,
    Tui,
    print_json,
)


def quickstart(
    overrides: Overrides = None,
    json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    plain: Plain = False,
    report_to: ReportTo = None,
) -> None:
    """Watch the built-in model learn household commands, in a few minutes.

    Fetches a model of 93 MB the first time. The same as `tspin-mlx run quickstart`.

    Example: tspin-mlx quickstart
    """
    from .run import Shown, run_recipe

    run_recipe("quickstart", overrides or [], Shown(json, detach, tui, plain, report_to or ()), introduce=True)


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    plain: Plain = False,
    report_to: ReportTo = None,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="NAME", help="Make a new run NAME with these settings; keep what still holds."),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run a recipe; given again, go on where it stopped.

    Training happens in a process of its own: closing the terminal does not end it, Ctrl-C does, after the step. The
    results are in runs/NAME, the best adapter in runs/NAME/best.

    Example: tspin-mlx run my-recipe.yaml training.learning_rate=2e-5 run.name=slower

    Example: tspin-mlx run my-recipe.yaml objective.beta=0.3 --fork more-history
    """
    from .run import Shown, run_recipe

    shown = Shown(json, detach, tui, plain, report_to or ())
    run_recipe(recipe, overrides or [], shown, fork=fork, trusted=trust_remote_code)


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file with a recipe, arms and lists of values.", metavar="FILE")],
    folder: RunsFolder = Path("runs"),
    jobs: Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Runs side by side.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every run and list them; write nothing.")] = False,
    json: Json = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change all runs; of a varied key, this value only."),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run a recipe over settings and seeds, and compare; given again, go on where it stopped.

    What runs have in common is computed once. The runs are in FOLDER/NAME, where NAME is the file's name without
    its ending; `runs compare NAME` shows the table again.

    The file, such as rates.yaml:

        recipe: my-task.yaml
        set: {training.iterations: 2}
        vary: {training.learning_rate: [1e-5, 5e-5], run.seed: [0, 1, 2]}

    Example: tspin-mlx sweep rates.yaml --dry-run

    Example: tspin-mlx sweep rates.yaml --jobs 2 --set training.iterations=2
    """
    from .sweep import run_sweep

    run_sweep(file, changes or [], folder, jobs, dry_run=dry_run, as_json=json, trusted=trust_remote_code)


def resume(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    plain: Plain = False,
    report_to: ReportTo = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Go on with a run that was stopped, killed or failed, exactly where it was.

    Example: tspin-mlx resume quickstart
    """
    from .run import Shown, resume_run

    resume_run(run, folder, Shown(json, detach, tui, plain, report_to or ()), trusted=trust_remote_code)


def watch(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    plain: Plain = False,
    json: Json = False,
    report_to: ReportTo = None,
) -> None:
    """Watch a run, whether it goes on in the background, has ended, or comes from elsewhere; leaving stops nothing.

    On a terminal this is the app; with --plain, --report-to or in a pipe, lines.

    Example: tspin-mlx watch quickstart

    Example: tspin-mlx watch quickstart --report-to trackio
    """
    from .control import watch_run

    watch_run(run, folder, as_json=json, plain=plain, report_to=report_to or ())


def stop(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    after: Annotated[
        StopAfter | None, typer.Option("--after", help="Finish the step, which is the default, or the whole iteration.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Finish nothing; the last checkpoint is kept.")] = False,
) -> None:
    """Stop a run; `resume` goes on with it.

    Example: tspin-mlx stop quickstart --after iteration
    """
    from .control import stop_run

    if now and after is not None:
        raise typer.BadParameter("give --after or --now, not both")
    stop_run(run, folder, when="now" if now else after or "step")


def plan(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Show what a recipe would do, without doing it: every phase, its steps, and what it makes.

    With --json also every seed. Reads and checks the data files, but needs no model and no network.

    Example: tspin-mlx plan quickstart training.iterations=4
    """
    from .show import show_plan

    show_plan(recipe, overrides or [], as_json=json)


def schema() -> None:
    """Print the JSON Schema of recipes, with every key's meaning.

    Example: tspin-mlx schema > recipe.schema.json
    """
    from ..recipe.schema import Recipe

    print_json(Recipe.model_json_schema())


def doctor(
    determinism: Annotated[
        bool,
        typer.Option(
            "--determinism",
            help="Train the built-in model twice for some steps, kill and resume the second run, and compare.",
        ),
    ] = False,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
) -> None:
    """See whether this machine has what a run needs, and keeps what is promised: MLX, memory, disk, model, token.

    Example: tspin-mlx doctor --determinism
    """
    from .doctor import show_findings

    show_findings(folder, determinism=determinism, as_json=json)
