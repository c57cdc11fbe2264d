"""``run``, ``quickstart`` and ``resume``: prepare a run, or find it, and start its engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from ...base.errors import UsageError
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
    from ...jobs.launch import prepare, run_path
    from ...recipe.catalog import find_recipe, parse_source
    from ...recipe.parse import to_override
    from ...runs.lock import busy, is_held
    from ...runs.run import Run
    from ..start import Shown, start

    overrides = overrides or []
    shown = Shown(as_json, detach, tui, plain, report_to or ())
    source = find_recipe(recipe)
    parsed = parse_source(source, overrides)
    shown.say(f"model    {parsed.model.path}")
    path, origin = run_path(parsed, source), None
    if fork is not None:
        origin = Run(path)
        parsed = parse_source(source, [*overrides, to_override("run.name", fork)])
        path = run_path(parsed, source)
        if path == origin.path:
            raise UsageError(f"--fork {fork}: the new run needs another name than the old one")
    if is_held(path):
        raise busy(path)
    launch = prepare(parsed, source, origin=origin, trusted=trust_remote_code, on_stage=shown.say)
    shown.say(f"data     {examples_text(launch.run.outline.counts)}")
    if launch.skipped:
        shown.say(skipped_text(launch.skipped))
    start(launch.run, shown, parsed.evaluation.samples, trusted=trust_remote_code)


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
    from ...runs.lock import busy, is_held
    from ...runs.run import find_run
    from ..start import Shown, start

    shown = Shown(as_json, detach, tui, plain, report_to or ())
    run = find_run(name, folder)
    if is_held(run.path):
        raise busy(run.path)
    shown.say(f"model    {run.about['model']['name']}")
    start(run, shown, trusted=trust_remote_code)
