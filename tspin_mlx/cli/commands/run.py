"""``run``, ``quickstart`` and ``resume``: prepare a run, or find it, and start its engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from ...runs.lock import busy, is_held
from ...runs.run import find_run
from ..options import Detach, Folder, Json, Overrides, Plain, RecipeName, ReportTo, RunName, TrustRemoteCode, Tui
from ..output import examples_text, skipped_text


def quickstart(
    overrides: Overrides = None,
    as_json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    plain: Plain = False,
    report_to: ReportTo = None,
) -> None:
    """Watch the built-in model learn household commands, in a few minutes.

    Fetches a model of 93 MB the first time. The same as `tspin-mlx run quickstart`.

    Example: tspin-mlx quickstart
    """
    from ...recipe.catalog import find_recipe, parse_source
    from ..start import Shown

    shown = Shown(as_json, detach, tui, plain, report_to or ())
    shown.say(parse_source(find_recipe("quickstart"), overrides or []).description.strip() + "\n")
    run("quickstart", overrides, as_json, detach, tui, plain, report_to)


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    as_json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    plain: Plain = False,
    report_to: ReportTo = None,
    fork: Annotated[
        str | None,
        Option(metavar="NAME", help="Make a new run NAME with these settings; reuse results that hold."),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run a recipe; the same command again resumes it where it stopped.

    Training happens in a process of its own: closing the terminal does not end it, Ctrl-C does, after the step. The
    results are in runs/NAME, the best adapter in runs/NAME/best.

    Example: tspin-mlx run my-recipe.yaml training.learning_rate=2e-5 run.name=slower

    Example: tspin-mlx run my-recipe.yaml objective.beta=0.3 --fork more-history
    """
    from ...jobs.launch import launch
    from ..start import Shown, start

    shown = Shown(as_json, detach, tui, plain, report_to or ())
    made = launch(recipe, overrides or [], fork=fork, trusted=trust_remote_code, on_stage=shown.say)
    shown.say(f"data     {examples_text(made.run.outline.counts)}")
    if made.skipped:
        shown.say(skipped_text(made.skipped))
    start(made.run, shown, made.samples, trusted=trust_remote_code)


def resume(
    name: RunName,
    folder: Folder = Path("runs"),
    as_json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    plain: Plain = False,
    report_to: ReportTo = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Resume a run that was stopped, killed or failed, exactly where it was.

    Example: tspin-mlx resume quickstart
    """
    from ..start import Shown, start

    shown = Shown(as_json, detach, tui, plain, report_to or ())
    run = find_run(name, folder)
    if is_held(run.path):
        raise busy(run.path)
    shown.say(f"model    {run.about['model']['name']}")
    start(run, shown, trusted=trust_remote_code)
