"""Fit training into memory: measure a training step, then choose micro-batch size and gradient checkpointing."""

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

#: Share of the memory budget that a step may use; the rest is for KV caches of generation and for other programs.
_USABLE = 0.8


def settle_memory(run: Run, plan: Plan, policy: Policy, emit: Emit) -> Plan:
    """Resolve ``training.grad_checkpoint=auto`` in a plan. The run stores the decision, to compute the same if resumed.

    Raises:
        SetupError: the recipe asks for gradient checkpointing, which the model does not allow.
    """
    if not plan.train_phases:
        return plan
    if plan.sizes.grad_checkpoint is True and not can_grad_checkpoint(policy):
        if (
            plan.recipe.training.grad_checkpoint is not True
        ):  # the supervisor halves sizes after a failure without knowing the model
            return plan.with_sizes(replace(plan.sizes, grad_checkpoint=False))
        raise SetupError(
            "gradient checkpointing does not work with this model: its layers share more than their outputs",
            hint="set training.grad_checkpoint=false, and a smaller training.micro_batch_size if memory runs out",
        )
    if plan.sizes.grad_checkpoint != "auto":
        return plan
    prompts = run.prompts().train
    sizes, expected = measured_sizes(policy, plan, prompts, budget := memory_budget())
    run.decide(MEASURED, sizes)
    if expected > budget:
        emit(
            "warning",
            message=f"memory may run out: the longest triplet needs about {expected / 1e9:.1f} GB with the model, but "
            f"only {budget / 1e9:.1f} GB are available; reduce data.max_tokens or generation.max_tokens, use fewer "
            "lora.layers, or a smaller model",
        )
    elif sizes != replace(plan.sizes, grad_checkpoint=False):
        how = " with gradient checkpointing" if sizes.grad_checkpoint else ""
        emit(
            "warning",
            message=f"to fit into {budget / 1e9:.1f} GB, the micro-batch size is {sizes.micro_batch_size}"
            f"{how}: about {expected / 1e9:.1f} GB",
        )
    return plan.with_sizes(sizes)


def measured_sizes(policy: Policy, plan: Plan, prompts: Sequence[Prompt], budget: int) -> tuple[BatchSizes, int]:
    """Choose sizes for ``grad_checkpoint=auto``: the micro-batch if it fits, else a smaller one, else checkpointing.

    Args:
        prompts: all prompts that will be trained on.
        budget: bytes that may be used, see :func:`tspin_mlx.base.machine.memory_budget`.

    Returns:
        The sizes, and the expected peak memory of training with them, in bytes.
    """
    resting, wanted = resting_bytes(policy), plan.sizes
    phase = plan.train_phases[-1]
    sizes, expected = wanted, resting
    for grad_checkpoint in (False, True):
        if grad_checkpoint and not can_grad_checkpoint(policy):
            break
        each = triplet_bytes(policy, phase, prompts, plan.recipe.generation.max_tokens, grad_checkpoint)
        count = wanted.micro_batch_size
        while count > 1 and resting + count * each > _USABLE * budget:
            count //= 2
        sizes, expected = (
            replace(wanted, grad_checkpoint=grad_checkpoint, micro_batch_size=count),
            resting + count * each,
        )
        if expected <= _USABLE * budget:
            break
    return sizes, expected


def triplet_bytes(
    policy: Policy, phase: TrainPhase, prompts: Sequence[Prompt], max_tokens: int, grad_checkpoint: bool
) -> int:
    """Estimate the peak memory of the gradients of the largest possible triplet in bytes, without the model.

    It is measured at a quarter and at half of the length, so that measuring needs no more memory than training, and
    extrapolated as ``b x + c x^2``.

    Args:
        phase: its objective decides how many responses there are.
        max_tokens: longest sampled response.
        grad_checkpoint: recompute the activations of layers in the backward pass.
    """
    config = replace(phase.train, grad_checkpoint=grad_checkpoint, micro_batch_size=1)
    trainer = Trainer(policy, phase.objective, config, seed=0)
    scorer, shares = policy.scorer, policy.scorer.shares
    largest = largest_prompt(phase, prompts, shares)
    try:  # the whole triplet may be too long for a sliding window to share its prompt, though parts of it are not
        scorer.shares = bool(scorer.collate([_triplet(phase, largest, max_tokens, 1)]).parts[0].prefix.size)
        quarter, half = (trainer.peak_bytes([_triplet(phase, largest, max_tokens, share)]) for share in (1 / 4, 1 / 2))
    finally:
        scorer.shares = shares
    square = max(0, 8 * (half - 2 * quarter))
    return int(2 * half + square / 2)


def resting_bytes(policy: Policy) -> int:
    """Return the bytes in use while gradients are computed: the model, and four times the adapter's size for the
    optimiser's two moments, the accumulated gradients and the untouched adapter."""
    adapter = sum(value.nbytes for value in policy.adapter().values())
    return int(mx.get_active_memory() + 4 * adapter)


def largest_prompt(phase: TrainPhase, prompts: Sequence[Prompt], shared: bool) -> Prompt:
    """Return the prompt whose triplet has the most tokens.

    Args:
        shared: the prompt is computed once for all responses, not once for each.
    """
    times = 1 if shared else 1 + phase.own_responses
    return max(prompts, key=lambda prompt: times * len(prompt.tokens) + len(prompt.annotated.tokens))


def _triplet(phase: TrainPhase, longest: Prompt, max_tokens: int, share: float) -> Example:
    """Make a triplet of the greatest possible length, cut to this share of it."""
    prompt = replace(longest, tokens=longest.tokens[: max(2, int(share * len(longest.tokens)))])
    lengths = [len(longest.annotated.tokens), *[max_tokens] * phase.own_responses]
    token = longest.annotated.tokens[0]
    return prompt, tuple(Response((token,) * max(1, int(share * length)), "") for length in lengths)
