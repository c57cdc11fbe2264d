"""The algorithm: for each phase of the plan that is not done, do it.

    y0 <- the initial policy's answers, once
    for t in 0 .. T-1:
        y' <- policy t's answers;  train policy t+1 on (x, y, y', y0), starting from policy t

It prints nothing; it speaks through events only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..base.stop import Stop
from ..models.load import Policy
from ..recipe.plan import Plan
from ..runs.run import Run
from ..training.fit_memory import settle_memory
from ..view.events import Emit
from .context import Context
from .phases import WORK


def run_plan(run: Run, plan: Plan, load: Callable[[], Policy], emit: Emit, stop: Stop) -> None:
    """Do every phase that is not done yet.

    Args:
        load: makes the policy with its untouched adapter; called only if there is something to do.
        emit: takes ``kind`` and fields, see :mod:`tspin_mlx.view.events`.
        stop: asked between phases, steps and tokens.

    Raises:
        Stopped: that was asked for; what is finished is kept.
        DivergedError: a loss or a gradient was not finite.
        SetupError, ResourcesError, StorageError: the model cannot be loaded or trained, does not fit, or a result could
            not be written.
    """
    started = time.perf_counter()
    phases, pending = len(plan.phases), run.pending()
    done = phases - len(pending)
    emit("run_started", name=run.name, phases=phases, phases_done=done, steps=plan.steps, counts=plan.counts)
    if pending:
        policy = load()
        plan = settle_memory(run, plan, policy, emit)
        context = Context(run, plan, policy, emit, stop)
        previous = None
        for phase in plan.phases:
            if phase.target not in run.pending():
                continue
            stop.between(previous, phase)
            begun = time.perf_counter()
            emit("phase_started", phase=phase.target, title=phase.title, iteration=phase.iteration)
            context.use(phase.policy)
            WORK[phase.kind](context, phase)
            emit("phase_finished", phase=phase.target, elapsed_s=time.perf_counter() - begun)
            previous = phase
    emit("run_finished", elapsed_s=time.perf_counter() - started)
