"""The training loop: compiled gradients of micro-batches, accumulated, checked, clipped, applied."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map

from .batching import MicroBatch, Scored, collate, epoch_order, micro_batches
from .errors import DivergedError
from .method import Counts, Objective, objective_loss
from .models import Policy
from .schedule import learning_rate_at
from .scoring import Scorer, as_arrays
from .seeds import derive
from .step_metrics import step_metrics

OPTIMIZERS = {"adamw": optim.AdamW, "adam": optim.Adam, "rmsprop": optim.RMSprop, "lion": optim.Lion}


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the updates of one phase.

    Attributes:
        steps: optimiser steps in all epochs.
        epochs: passes over the examples.
        batch_size: examples per step; the last step of an epoch may have fewer.
        micro_batch_size: examples computed at once.
        optimizer: a key of :data:`OPTIMIZERS`.
        learning_rate: the peak.
        schedule: how it falls after ``warmup_steps``.
        warmup_steps: steps in which it rises.
        weight_decay: for the optimisers that have it.
        max_grad_norm: clip to this norm, None for no clipping.
        recompute: compute layers again in the backward pass.
        seed: of order and dropout.
    """

    steps: int
    epochs: int
    batch_size: int
    micro_batch_size: int
    optimizer: Literal["adamw", "adam", "rmsprop", "lion"]
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float | None
    recompute: bool
    seed: int


def train(
    policy: Policy,
    examples: Sequence[Scored],
    objective: Objective,
    plan: TrainingPlan,
    on_step: Callable[[int, dict[str, float]], None],
) -> None:
    """Train the policy's adapter in place.

    Args:
        examples: prompts with their responses, y first; all with the same number of responses.
        on_step: called after each update with the step's number, from 1, and its metrics.

    Raises:
        DivergedError: a loss or gradient is not finite. The adapter is as it was after the step before.
    """
    optimizer = make_optimizer(plan)
    optimizer.init(policy.model.trainable_parameters())
    scorer = Scorer(policy.model)
    policy.model.train()
    try:
        with recomputed_layers(policy.model, plan.recompute):
            gradients = _compiled_gradients(policy.model, scorer, objective)
            step = 0
            for epoch in range(plan.epochs):
                order = epoch_order(len(examples), derive(plan.seed, "order", epoch))
                for start in range(0, len(order), plan.batch_size):
                    step += 1
                    batch = [examples[i] for i in order[start : start + plan.batch_size]]
                    metrics = _step(policy, optimizer, gradients, batch, objective, plan, step)
                    on_step(step, {"epoch": epoch + min(1.0, (start + plan.batch_size) / len(order)), **metrics})
    finally:
        policy.model.eval()


def make_optimizer(plan: TrainingPlan) -> optim.Optimizer:
    """A fresh optimiser; its rate is set before each step."""
    options: dict[str, Any] = {}
    if plan.optimizer in ("adam", "adamw"):
        options["bias_correction"] = True
    if plan.optimizer in ("adamw", "lion"):
        options["weight_decay"] = plan.weight_decay
    return OPTIMIZERS[plan.optimizer](learning_rate=plan.learning_rate, **options)


@contextmanager
def recomputed_layers(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Within the block, layers keep only their input for the backward pass and compute the rest again.

    The layers' class is changed once and put back: doing it per phase would nest the recomputation.
    """
    if not enabled:
        yield
        return
    kinds = {type(layer) for layer in model.layers}
    originals = {kind: kind.__call__ for kind in kinds}
    for kind, original in originals.items():
        kind.__call__ = _recomputing(original)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original


def _recomputing(original: Callable) -> Callable:
    def call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        def inner(parameters: dict, *args: Any, **kwargs: Any) -> Any:
            layer.update(parameters)  # a checkpoint differentiates only what it is handed
            return original(layer, *args, **kwargs)

        return mx.checkpoint(inner)(layer.trainable_parameters(), *args, **kwargs)

    return call


def _compiled_gradients(model: nn.Module, scorer: Scorer, objective: Objective) -> Callable:
    """``(arrays of a micro-batch, counts) -> (loss share, logps, entropies), gradients``, compiled per shape."""

    def loss_of(batch: dict[str, mx.array], counts: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        logps, entropies = scorer(batch)
        return objective_loss(logps, entropies, batch["lengths"], counts, objective), logps, entropies

    state = [model.state, mx.random.state]
    return mx.compile(nn.value_and_grad(model, loss_of), inputs=state, outputs=state)


def _step(
    policy: Policy,
    optimizer: optim.Optimizer,
    gradients: Callable,
    batch: list[Scored],
    objective: Objective,
    plan: TrainingPlan,
    step: int,
) -> dict[str, float]:
    """One update, and what was seen on the way."""
    started = time.perf_counter()
    mx.random.seed(derive(plan.seed, "step", step))
    counts = batch_counts(batch)
    total, grads, seen = None, None, []
    for micro in micro_batches(batch, plan.micro_batch_size):
        arrays = collate(micro)
        found, share = gradients(as_arrays(arrays), mx.array(list(vars(counts).values()), mx.float32))
        grads = share if grads is None else tree_map(mx.add, grads, share)
        total = found[0] if total is None else total + found[0]
        mx.eval(total, grads, found[1:])
        seen.append((arrays, found[1], found[2]))
    norm = grad_norm(grads)
    check_finite(total.item(), norm.item(), step, batch)
    optimizer.learning_rate = learning_rate_at(
        step, plan.steps, plan.learning_rate, plan.warmup_steps, plan.schedule
    )
    if plan.max_grad_norm is not None:
        factor = min(1.0, plan.max_grad_norm / (norm.item() + 1e-6))
        grads = tree_map(lambda gradient: gradient * factor, grads)
    optimizer.update(policy.model, grads)
    mx.eval(policy.model.trainable_parameters(), optimizer.state)
    elapsed = time.perf_counter() - started
    return {
        "loss": total.item(),
        "learning_rate": optimizer.learning_rate.item(),
        "grad_norm": norm.item(),
        **_measured(seen, objective),
        "tokens_per_s": sum(int((micro.tokens.size)) for micro, _, _ in seen) / elapsed,
        "elapsed_s": elapsed,
        "memory/peak_bytes": mx.get_peak_memory(),
    }


def batch_counts(batch: Sequence[Scored]) -> Counts:
    """Sizes of a batch, by which its micro-batches' losses are divided."""
    return Counts(
        triplets=len(batch),
        annotated_tokens=sum(len(responses[0].tokens) for _, responses in batch),
        scored_tokens=sum(len(response.tokens) for _, responses in batch for response in responses),
    )


def grad_norm(grads: Any) -> mx.array:
    """Euclidean norm over all gradients, scalar float32."""
    return mx.sqrt(sum((gradient.astype(mx.float32).square().sum() for _, gradient in tree_flatten(grads)), mx.array(0.0)))


def check_finite(loss: float, norm: float, step: int, batch: Sequence[Scored]) -> None:
    """Refuse to update from a loss or gradient that is not finite.

    Raises:
        DivergedError: names the step and its examples.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    names = ", ".join(prompt.id for prompt, _ in batch)
    what = "loss" if not math.isfinite(loss) else "gradient"
    raise DivergedError(
        f"step {step}: the {what} is not finite (examples: {names}); no update was made from it",
        hint="try a smaller training.learning_rate, or model.dtype=float32",
    )


def _measured(seen: list[tuple[MicroBatch, mx.array, mx.array]], objective: Objective) -> dict[str, float]:
    lengths = np.concatenate([micro.lengths for micro, _, _ in seen], axis=1)
    logps = np.concatenate([np.array(found) for _, found, _ in seen], axis=1)
    entropies = np.concatenate([np.array(found) for _, _, found in seen], axis=1)
    return step_metrics(logps, entropies, lengths, objective.alpha)
