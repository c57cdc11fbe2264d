"""``watch``: show the progress of a run that another process works on, or the last start of an ended one."""

from __future__ import annotations

from pathlib import Path

from ...runs.lock import is_held
from ...runs.run import find_run
from ..console import say
from ..options import Folder, Json, Plain, ReportTo, RunName
from ..screens import is_terminal, show_run


def watch(
    name: RunName,
    folder: Folder = Path("runs"),
    plain: Plain = False,
    as_json: Json = False,
    report_to: ReportTo = None,
) -> None:
    """Watch a run that works in the background, has ended, or comes from elsewhere; leaving does not stop it.

    On a terminal this is the app; with --plain, --report-to or in a pipe, lines.

    Example: tspin-mlx watch quickstart

    Example: tspin-mlx watch quickstart --report-to trackio
    """
    from ...jobs.control import command
    from ...jobs.follow import follow
    from ...runs.event_log import offset_of_last_start
    from ..follow import showing
    from ..result import print_result

    run = find_run(name, folder)
    if is_terminal() and not (plain or as_json or report_to):
        show_run(run)
    offset = offset_of_last_start(run.events_path)
    with showing(run, as_json=as_json, plain=plain, report_to=report_to or ()) as show:
        try:
            last = follow(run, offset, lambda: is_held(run.path), show)
        except KeyboardInterrupt:
            last = None
    if as_json:
        return
    if is_held(run.path):
        say(f"\ntraining continues in the background; to stop it: {command('stop', run)}")
    elif run.is_finished:
        print_result(run)
    else:
        say(f"\n{last['message'] if last else 'interrupted'}; to resume: {command('resume', run)}")
