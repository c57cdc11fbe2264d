"""``stop``: ask the process that works on a run to stop, and wait for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from ...base.errors import BusyError
from ...runs.lock import is_held
from ...runs.run import find_run
from ..console import say
from ..options import Folder, RunName

_TIMEOUT_S = 600.0


def stop(
    name: RunName,
    folder: Folder = Path("runs"),
    after: Annotated[
        Literal["step", "iteration"] | None,
        typer.Option(help="Finish the step, which is the default, or the whole iteration."),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Finish nothing; the last checkpoint is kept.")] = False,
) -> None:
    """Stop a run; `resume` continues it.

    Example: tspin-mlx stop quickstart --after iteration
    """
    from ...jobs.control import command, request_stop

    if now and after is not None:
        raise typer.BadParameter("give --after or --now, not both")
    run = find_run(name, folder)
    request_stop(run, "now" if now else after or "step")
    if after == "iteration":
        say(f"{run.name} stops when the iteration is finished; to resume it then: {command('resume', run)}")
        return
    deadline = time.monotonic() + _TIMEOUT_S
    try:
        while is_held(run.path):
            if time.monotonic() > deadline:
                raise BusyError(
                    f"{run.name} has been asked to stop and still works",
                    hint=f"{command('stop', run)} --now ends it at once; its last checkpoint is kept",
                )
            time.sleep(0.1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    say(f"{run.name} has stopped; to resume it: {command('resume', run)}")
