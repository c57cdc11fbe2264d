"""The engine: run each phase of a plan that is not done yet. The algorithm itself is in :mod:`tspin_mlx.tspin`.

It prints nothing; it only emits events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..base.stop import Stop
from ..models.load import Policy
from ..recipe.phase import Phase, PhaseKind, TrainPhase
from ..recipe.plan import Plan
from ..runs.run import Run
from ..training.fit_memory import settle_memory
from ..view.events import Emit
from . import evaluate_phases, sample_phases, train_phases
from .context import Context


def run_plan(run: Run, plan: Plan, load: Callable[[], Policy], emit: Emit, stop: Stop) -> None:
    """Do every phase that is not done yet.

    Args:
        load: loads the policy with an untrained adapter; called only if there is something to do.
        emit: takes ``kind`` and fields, see :mod:`tspin_mlx.view.events`.
        stop: checked between phases, steps and tokens.

    Raises:
        Stopped: a stop was requested; finished work is kept.
        DivergedError: a loss or a gradient was not finite.
        SetupError, ResourcesError, StorageError: the model cannot be loaded or trained, does not fit, or a result could
            not be written.
    """
    started = time.perf_counter()
    pending = set(run.pending())
    phases, done = len(plan.phases), len(plan.phases) - len(pending)
    emit("run_started", name=run.name, phases=phases, phases_done=done, steps=plan.steps, counts=dict(plan.counts))
    if pending:
        policy = load()
        plan = settle_memory(run, plan, policy, emit)
        context = Context(run, plan, policy, emit, stop)
        previous = None
        for phase in plan.phases:
            if phase.target not in pending or context.is_over(phase):
                continue
            stop.between(previous, phase)
            begun = time.perf_counter()
            emit("phase_started", phase=phase.target, title=phase.title, iteration=phase.iteration)
            context.use(phase.policy)
            _do(context, phase)
            emit("phase_finished", phase=phase.target, elapsed_s=time.perf_counter() - begun)
            previous = phase
    emit("run_finished", elapsed_s=time.perf_counter() - started)


def _do(context: Context, phase: Phase) -> None:
    if isinstance(phase, TrainPhase):
        _TRAIN[phase.kind](context, phase)
    else:
        _OTHERS[phase.kind](context, phase)


def _keep(context: Context, phase: Phase) -> None:
    """Save the untrained adapter, which does not change the model's answers."""
    context.save(Path(phase.target).parent.as_posix())


#: The function of each kind of phase.
_TRAIN: dict[PhaseKind, Callable[[Context, TrainPhase], None]] = {
    "warmup": train_phases.warm_up,
    "supervise": train_phases.supervise,
    "train": train_phases.train,
}
_OTHERS: dict[PhaseKind, Callable[[Context, Phase], None]] = {
    "keep": _keep,
    "generate": sample_phases.generate,
    "pair": sample_phases.pair,
    "refer": train_phases.refer,
    "evaluate": evaluate_phases.evaluate,
    "choose": evaluate_phases.choose,
    "test": evaluate_phases.test,
    "test_best": evaluate_phases.test_best,
}
