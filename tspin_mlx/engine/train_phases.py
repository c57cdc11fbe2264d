"""The phases that train the adapter, supervised or on triplets, with checkpoints within a phase."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..evaluation.guard import saturated
from ..method.triplets import REFERENCE, SCORES, TRIPLETS, Prompt, Score, to_row, triplet_from_row
from ..models.adapters import fused
from ..recipe.phase import Phase, TrainPhase
from ..scoring.collate import Example
from ..scoring.logprobs import score
from ..training.checkpoints import Checkpoints
from ..training.trainer import Trainer
from .context import Context

_BETWEEN = 20  # minimum time between checkpoints, as a multiple of the time that saving one takes


def warm_up(context: Context, phase: TrainPhase) -> None:
    """Train on the expert's answers before self-play."""
    _supervise(context, phase, context.prompts.train[: context.plan.recipe.warmup.prompts])


def supervise(context: Context, phase: TrainPhase) -> None:
    """Train on the expert's answers for one iteration, with the prompts that self-play would use."""
    _supervise(context, phase, context.self_play_prompts)


def refer(context: Context, phase: Phase) -> None:
    """Score this iteration's triplets with the policy at its start."""
    examples = _triplets(context, phase)
    report = context.progress(phase, len(examples))
    scorer = context.policy.scorer
    with fused(context.policy):
        logps = score(scorer, examples, report)
    rows = [{"id": prompt.id, "logps": each.tolist()} for (prompt, _), each in zip(examples, logps.T, strict=True)]
    context.store.write_jsonl(phase.target, rows)


def train(context: Context, phase: TrainPhase) -> None:
    """Train on this iteration's triplets, and store their first log-probabilities."""
    examples, target = _triplets(context, phase), Path(phase.target)
    reference = {}
    if phase.objective.reference:
        rows = context.store.read_jsonl(target.with_name(REFERENCE).as_posix())
        reference = {row["id"]: row["logps"] for row in rows}
    logps = _optimise(context, phase, examples, reference)
    scores = [Score(prompt.id, *logps[prompt.id]) for prompt, _ in examples]
    context.store.write_jsonl(target.with_name(SCORES).as_posix(), [to_row(score) for score in scores])
    _finish(context, phase)


def _supervise(context: Context, phase: TrainPhase, prompts: Sequence[Prompt]) -> None:
    _optimise(context, phase, [(prompt, (prompt.annotated,)) for prompt in prompts])
    _finish(context, phase)


def _triplets(context: Context, phase: Phase) -> list[Example]:
    """Read the iteration's triplets as they are scored."""
    rows = context.store.read_jsonl(Path(phase.target).with_name(TRIPLETS).as_posix())
    tokens = context.plan.recipe.objective.contrast_tokens
    return [(triplet.prompt, triplet.responses(tokens)) for triplet in map(triplet_from_row, rows)]


def _optimise(
    context: Context,
    phase: TrainPhase,
    examples: Sequence[Example],
    reference: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, list[float]]:
    """Run the steps of a phase from its last checkpoint on; returns :attr:`Trainer.first_logps`."""
    steps, pause = phase.train.steps, context.plan.recipe.run.checkpoint_seconds
    checkpoints = Checkpoints(context.store, phase.target, context.emit)
    trainer = Trainer(context.policy, phase.objective, phase.train, phase.seed, context.gradients, reference)
    if done := checkpoints.restore(trainer):
        context.emit("resumed", phase=phase.target, done=done, total=steps)
    due = time.monotonic() + pause

    def on_step(step: int, metrics: dict[str, float]) -> None:
        nonlocal due
        context.emit("step", phase=phase.target, iteration=phase.iteration, step=step, steps=steps, **metrics)
        if step == 1 and phase.iteration == 0:
            context.warn(saturated(metrics))
        if step < steps and ((begun := time.monotonic()) >= due or context.stop.now):
            checkpoints.save(trainer, step)
            context.stop.check()
            now = time.monotonic()
            due = now + (max(pause, _BETWEEN * (now - begun)) if pause else 0)

    trainer.run(examples, on_step, done)
    return trainer.first_logps


def _finish(context: Context, phase: TrainPhase) -> None:
    """Save the adapter, which completes the phase, and remove its checkpoints."""
    context.save(Path(phase.target).parent.as_posix())
    Checkpoints(context.store, phase.target, context.emit).clear()
