"""What fits: measures the memory of a training step, and picks the fastest way that has room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from ..base.errors import SetupError
from ..base.machine import memory_budget
from ..method.triplets import Prompt, Response
from ..models.load import Policy
from ..recipe.phase import BatchSizes, TrainPhase
from ..recipe.plan import Plan
from ..runs.run import MEASURED, Run
from ..scoring.collate import Example
from ..view.events import Emit
from .grad_checkpoint import can_grad_checkpoint
from .trainer import Trainer

#: Share of the budget that a step may fill; the rest is for generation's caches and for what else the machine does.
_ROOM = 0.8


def settle_memory(run: Run, plan: Plan, policy: Policy, emit: Emit) -> Plan:
    """Decide ``training.grad_checkpoint=auto`` in a plan. The run keeps the decision: resumed, it computes the same.

    Raises:
        SetupError: the recipe asks for gradient checkpointing, and the model cannot be trained so.
    """
    if not plan.train_phases:
        return plan
    if plan.sizes.grad_checkpoint is True and not can_grad_checkpoint(policy):
        if (
            plan.recipe.training.grad_checkpoint is not True
        ):  # sizes are halved after a failure without a look at the model
            return plan.with_sizes(replace(plan.sizes, grad_checkpoint=False))
        raise SetupError(
            "this model's layers cannot be computed twice: one uses what another has left beside its result",
            hint="training.grad_checkpoint=false, with a smaller training.micro_batch_size if it does not fit",
        )
    if plan.sizes.grad_checkpoint != "auto":
        return plan
    prompts = run.prompts().train
    sizes, expected = measured_sizes(policy, plan, prompts, budget := memory_budget())
    run.decide(MEASURED, sizes)
    if expected > budget:
        emit(
            "warning",
            message=f"it may not fit: the longest triplet takes about {expected / 1e9:.1f} GB with the model, and "
            f"{budget / 1e9:.1f} GB can be used: shorter data.max_tokens or generation.max_tokens, fewer lora.layers, "
            "or a smaller model need less",
        )
    elif sizes != replace(plan.sizes, grad_checkpoint=False):
        how = " with gradient checkpointing" if sizes.grad_checkpoint else ""
        emit(
            "warning",
            message=f"to fit into {budget / 1e9:.1f} GB, {sizes.micro_batch_size} triplets are trained on at once"
            f"{how}: about {expected / 1e9:.1f} GB",
        )
    return plan.with_sizes(sizes)


def measured_sizes(policy: Policy, plan: Plan, prompts: Sequence[Prompt], budget: int) -> tuple[BatchSizes, int]:
    """Decide ``training.grad_checkpoint=auto``: all triplets at once if they fit, else fewer, else with checkpointing.

    Args:
        prompts: all that will be trained on.
        budget: bytes that may be used, see :func:`tspin_mlx.base.machine.memory_budget`.

    Returns:
        The sizes, and the bytes that training is expected to take with them at its most.
    """
    resting, wanted = resting_bytes(policy), plan.sizes
    phase = plan.train_phases[-1]
    sizes, expected = wanted, resting
    for grad_checkpoint in (False, True):
        if grad_checkpoint and not can_grad_checkpoint(policy):
            break
        each = triplet_bytes(policy, phase, prompts, plan.recipe.generation.max_tokens, grad_checkpoint)
        count = wanted.micro_batch_size
        while count > 1 and resting + count * each > _ROOM * budget:
            count //= 2
        sizes, expected = (
            replace(wanted, grad_checkpoint=grad_checkpoint, micro_batch_size=count),
            resting + count * each,
        )
        if expected <= _ROOM * budget:
            break
    return sizes, expected


def triplet_bytes(
    policy: Policy, phase: TrainPhase, prompts: Sequence[Prompt], max_tokens: int, grad_checkpoint: bool
) -> int:
    """Bytes that the gradients of the largest possible triplet take, at their peak, beside the model.

    Measured at a quarter and at half of its length, so that measuring needs no more room than training, and carried
    on as ``b x + c x^2``.

    Args:
        phase: whose objective decides how many responses there are.
        max_tokens: longest sampled response.
    """
    config = replace(phase.train, grad_checkpoint=grad_checkpoint, micro_batch_size=1)
    trainer = Trainer(policy, phase.objective, config, seed=0)
    scorer, shares = policy.scorer, policy.scorer.shares
    largest = largest_prompt(phase, prompts, shares)
    try:  # a whole one may be too long for a sliding window to share its prompt, where parts of it would
        scorer.shares = bool(scorer.collate([_triplet(phase, largest, max_tokens, 1)]).parts[0].prefix.size)
        quarter, half = (trainer.peak_bytes([_triplet(phase, largest, max_tokens, share)]) for share in (1 / 4, 1 / 2))
    finally:
        scorer.shares = shares
    square = max(0, 8 * (half - 2 * quarter))
    return int(2 * half + square / 2)


def resting_bytes(policy: Policy) -> int:
    """What is there while gradients are computed: the model; of the adapter's size the optimiser's two moments, the
    gradients that they are added to, and the untouched adapter."""
    adapter = sum(value.nbytes for value in policy.adapter().values())
    return int(mx.get_active_memory() + 4 * adapter)


def largest_prompt(phase: TrainPhase, prompts: Sequence[Prompt], shared: bool) -> Prompt:
    """The prompt whose triplet has the most tokens.

    Args:
        shared: the prompt is computed once for all responses; else each brings its own.
    """
    times = 1 if shared else 1 + phase.own_responses
    return max(prompts, key=lambda prompt: times * len(prompt.tokens) + len(prompt.annotated.tokens))


def _triplet(phase: TrainPhase, longest: Prompt, max_tokens: int, share: float) -> Example:
    """A triplet as long as any can be, cut to this share of its length."""
    prompt = replace(longest, tokens=longest.tokens[: max(2, int(share * len(longest.tokens)))])
    lengths = [len(longest.annotated.tokens), *[max_tokens] * phase.own_responses]
    token = longest.annotated.tokens[0]
    return prompt, tuple(Response((token,) * max(1, int(share * length)), "") for length in lengths)
