"""One training step, in several ways. Each arm is run in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from tspin_mlx.base.machine import on_cpu
from tspin_mlx.method.losses import tspin_loss
from tspin_mlx.method.objective import Objective
from tspin_mlx.models.load import Policy
from tspin_mlx.recipe.plan import TrainConfig
from tspin_mlx.scoring.collate import Example, collate
from tspin_mlx.training.grad_checkpoint import grad_checkpointed
from tspin_mlx.training.trainer import Trainer

from .rounds import Measured, peak_matmul
from .workload import Workload, random_model, step_flops, with_adapter

OBJECTIVE = Objective(alpha=1.0, beta=0.1, nll_weight=0.0, entropy_weight=0.0)

#: An optimiser that is made with its first step changes what is compiled, so that the second step compiles again.
_NOT_COUNTED = 2


@dataclass
class Seen:
    """What an arm gives: the seconds of each step, FLOPs of one, and memory before the first, in bytes."""

    seconds: list[float]
    flops: float
    resting: int


#: Runs so many steps.
Arm = Callable[[Workload, int], Seen]


def measure(arm: str, work: Workload, steps: int) -> Measured:
    """Seconds of each step after those that compile; memory; and FLOPs."""
    seen = ARMS[arm](work, _NOT_COUNTED + steps)
    return {
        "seconds": seen.seconds[_NOT_COUNTED:],
        "peak_bytes": mx.get_peak_memory(),
        "resting_bytes": seen.resting,
        "flops": seen.flops,
        "peak_matmul": peak_matmul(),
    }


def _timed(step: Callable[[int], None], steps: int, flops: float) -> Seen:
    mx.reset_peak_memory()
    resting, seconds = mx.get_active_memory(), []
    for number in range(steps):
        begun = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - begun)
    return Seen(seconds, flops, resting)


def train_config(**changes: Any) -> TrainConfig:
    """AdamW at a constant rate, nothing clipped."""
    plain = TrainConfig(
        steps=1000, epochs=1, batch_size=1, micro_batch_size=1, optimizer="adamw", learning_rate=1e-6,
        schedule="constant", warmup_steps=0, weight_decay=0.0, max_grad_norm=None, grad_checkpoint=False,
    )  # fmt: skip
    return replace(plain, **changes)


def _ours(work: Workload, steps: int, *, share: bool = True, recompute: bool = False) -> Seen:
    policy = with_adapter(random_model(work.shape))
    size = 1 if recompute else work.triplets
    config = train_config(batch_size=work.triplets, micro_batch_size=size, grad_checkpoint=recompute)
    trainer = Trainer(policy, OBJECTIVE, config, seed=0)
    if not share:
        policy.scorer.collate = lambda examples: collate(examples, share=False)
    policy.model.train()
    examples = work.examples(3)
    flops = our_flops(work, examples, size, share=share, recompute=recompute)

    def step(number: int) -> None:
        trainer.step(number + 1, examples)

    trainer.compile_for([examples] * 2)
    with grad_checkpointed(policy.model, recompute):
        return _timed(step, steps, flops)


def our_flops(work: Workload, examples: Sequence[Example], size: int, *, share: bool, recompute: bool) -> float:
    """Of the micro-batches as they are computed, padding included."""
    total = 0.0
    for start in range(0, len(examples), size):
        batch = collate(examples[start : start + size], share=share)
        pairs = 0.0
        for part in batch.parts:
            prompts, prefix = part.prefix.shape
            pairs += prompts * prefix**2 / 2
            for rows in part.groups:
                count, width = rows.tokens.shape
                pairs += count * width * (prefix + width / 2)
        total += step_flops(work, batch.computed_tokens, len(batch.targets), pairs, recompute=recompute)
    return total


def _naive(work: Workload, steps: int, *, recompute: bool = False) -> Seen:
    """Three padded forwards with full logits: what one writes first."""
    policy = with_adapter(random_model(work.shape))
    model, optimizer = policy.model, optim.AdamW(learning_rate=1e-4, weight_decay=0.0)
    examples = work.examples(3)
    batches = [_padded(examples, r) for r in range(3)]
    state = [model.state, optimizer.state]

    def loss_of(batches: list[tuple[mx.array, mx.array]]) -> mx.array:
        logps = []
        for tokens, mask in batches:
            logits = model(tokens[:, :-1]).astype(mx.float32)
            logps.append(-(nn.losses.cross_entropy(logits, tokens[:, 1:]) * mask).sum(axis=1))
        return tspin_loss(*logps, alpha=OBJECTIVE.alpha, beta=OBJECTIVE.beta).mean()

    @partial(mx.compile, inputs=state, outputs=state)
    def compiled(batches: list[tuple[mx.array, mx.array]]) -> mx.array:
        loss, grads = nn.value_and_grad(model, loss_of)(batches)
        optimizer.update(model, grads)
        return loss

    def step(number: int) -> None:
        mx.eval(compiled(batches), state)

    flops = sum(_padded_flops(work, *tokens.shape, recompute=recompute) for tokens, _ in batches)
    with grad_checkpointed(model, recompute):
        return _timed(step, steps, flops)


def _padded_flops(work: Workload, rows: int, length: int, *, recompute: bool) -> float:
    inputs = rows * (length - 1)
    return step_flops(work, inputs, inputs, inputs * (length - 1) / 2, recompute=recompute)


def _padded(examples: Sequence[Example], number: int) -> tuple[mx.array, mx.array]:
    rows = [(x.tokens, responses[number].tokens) for x, responses in examples]
    length = max(len(prompt) + len(response) for prompt, response in rows)
    tokens = [[*prompt, *response] + [0] * (length - len(prompt) - len(response)) for prompt, response in rows]
    masks = [
        [float(len(prompt) <= column < len(prompt) + len(response)) for column in range(1, length)]
        for prompt, response in rows
    ]
    return mx.array(tokens), mx.array(masks)


def _mlx_lm_lora(work: Workload, steps: int, *, recompute: bool = False) -> Seen:
    """mlx-lm-lora's DPO from its package, unmodified: two responses, and a reference model
    of its own, as its command line loads one."""
    reference = random_model(work.shape).freeze()
    policy = with_adapter(random_model(work.shape))
    policy.model.train()
    pairs = [(x.tokens, responses[0].tokens, responses[1].tokens) for x, responses in work.examples(2)]
    optimizer = optim.AdamW(learning_rate=1e-6, weight_decay=0.0)
    mx.reset_peak_memory()
    resting = mx.get_active_memory()
    seconds = train_mlx_lm_lora(
        policy, reference, optimizer, pairs, batch_size=work.triplets, steps=steps, recompute=recompute
    )
    longest = max(len(x) + max(len(chosen), len(rejected)) for x, chosen, rejected in pairs)
    trained = 2 * _padded_flops(work, work.triplets, longest, recompute=recompute)
    return Seen(seconds, trained + 2 * _forward_flops(work, work.triplets, longest), resting)


def train_mlx_lm_lora(
    policy: Policy,
    reference: nn.Module,
    optimizer: optim.Optimizer,
    pairs: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]],
    *,
    batch_size: int,
    steps: int,
    recompute: bool = False,
) -> list[float]:
    """So many DPO steps on (prompt, chosen, rejected), and the seconds of each."""
    from mlx_lm_lora.trainer.dpo_trainer import DPOTrainingArgs, train_dpo

    rows = [
        {
            "chosen": [*x, *chosen], "chosen_prompt_length": len(x),
            "rejected": [*x, *rejected], "rejected_prompt_length": len(x),
        }
        for x, chosen, rejected in pairs
    ]  # fmt: skip
    seconds: list[float] = []

    class Clock:
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            seconds.append(1 / info["iterations_per_second"])

        def on_val_loss_report(self, info: dict[str, Any]) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOTrainingArgs(
            batch_size=batch_size, iters=steps, steps_per_report=1, steps_per_save=10**9,
            max_seq_length=4096, grad_checkpoint=recompute, adapter_file=f"{folder}/adapters.safetensors",
        )  # fmt: skip
        if on_cpu():  # it sets a limit that only a GPU has
            mx.device_info = lambda: {"max_recommended_working_set_size": 0}
        train_dpo(policy.model, reference, optimizer, rows, args=arguments, training_callback=Clock())
    return seconds


def _forward_flops(work: Workload, rows: int, length: int) -> float:
    """Of a forward pass only, as of a reference: about half of a step's without LoRA and gradients."""
    return _padded_flops(work, rows, length, recompute=False) / 2


ARMS: dict[str, Arm] = {
    "shared": _ours,
    "shared lean": partial(_ours, recompute=True),
    "stacked": partial(_ours, share=False),
    "naive": _naive,
    "naive recompute": partial(_naive, recompute=True),
    "mlx-lm-lora DPO": _mlx_lm_lora,
    "mlx-lm-lora DPO recompute": partial(_mlx_lm_lora, recompute=True),
}
