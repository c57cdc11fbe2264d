"""The algorithm: for each phase of the plan that is not done, do it.

    y0 <- the initial policy's answers, once
    for t in 0 .. T-1:
        y' <- policy t's answers;  train policy t+1 on (x, y, y', y0), starting from policy t

It prints nothing; it speaks through events only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .events import Emit
from .models import Policy
from .phases import WORK, Desk
from .plan import Plan
from .runs.directory import Run


def run_plan(run: Run, plan: Plan, load: Callable[[], Policy], emit: Emit) -> None:
    """Do every phase that is not done yet.

    Args:
        load: makes the policy with its untouched adapter; called only if there is something to do.
        emit: takes ``kind`` and fields, see :mod:`tspin_mlx.events`.
    """
    started = time.perf_counter()
    emit("run_started", name=run.name, phases=len(plan.phases), steps=plan.steps, counts=plan.counts)
    todo = [phase for phase in plan.phases if not run.is_done(phase)]
    if todo:
        desk = Desk(run, plan, load(), emit)
        for phase in todo:
            begun = time.perf_counter()
            emit("phase_started", phase=phase.target, title=phase.title, iteration=phase.iteration)
            desk.use(phase.policy)
            WORK[phase.kind](desk, phase)
            emit("phase_finished", phase=phase.target, elapsed_s=time.perf_counter() - begun)
    emit("run_finished", elapsed_s=time.perf_counter() - started)
