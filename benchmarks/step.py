"""One training step, in several ways. Each arm is run in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from tspin_mlx.batching import Scored, collate
from tspin_mlx.method.losses import tspin_loss
from tspin_mlx.objective import Objective
from tspin_mlx.plan import Updates
from tspin_mlx.training import Trainer, recomputed_layers

from .workload import Workload, random_model, step_flops, with_adapter

OBJECTIVE = Objective(alpha=1.0, beta=0.1, nll_weight=0.0, entropy_weight=0.0, length_normalize=False)


def measure(arm: str, work: Workload, steps: int) -> dict[str, Any]:
    """Seconds of each step after the first, which compiles; peak memory; FLOPs; and the loss of the first step."""
    started = ARMS[arm](work)
    weights = mx.get_active_memory()
    losses, seconds, flops = [], [], 0.0
    for number in range(steps + 1):
        mx.reset_peak_memory()
        begun = time.perf_counter()
        loss, flops = started(number)
        losses.append(loss)
        seconds.append(time.perf_counter() - begun)
    return {
        "seconds": seconds[1:],
        "peak_bytes": mx.get_peak_memory(),
        "weights_bytes": weights,
        "flops": flops,
        "loss": losses[0],
    }


Step = Callable[[int], tuple[float, float]]


def _ours(work: Workload, *, share: bool = True, recompute: bool = False) -> Step:
    policy = with_adapter(random_model(work.shape))
    updates = Updates(
        steps=1000, epochs=1, batch_size=work.triplets, micro_batch_size=1 if recompute else work.triplets,
        optimizer="adamw", learning_rate=1e-4, schedule="constant", warmup_steps=0, weight_decay=0.0,
        max_grad_norm=None, recompute=recompute,
    )  # fmt: skip
    trainer = Trainer(policy, OBJECTIVE, updates, seed=0)
    if not share:
        trainer._scorer.collate = lambda examples: collate(examples, share=False)
    policy.model.train()
    examples = work.examples(3)
    flops = our_flops(work, examples, updates.micro_batch_size, share=share, recompute=recompute)

    def step(number: int) -> tuple[float, float]:
        with recomputed_layers(policy.model, recompute):
            return trainer.step(number + 1, examples)["loss"], flops

    return step


def our_flops(work: Workload, examples: Sequence[Scored], size: int, *, share: bool, recompute: bool) -> float:
    """Of the micro-batches as they are computed, padding included."""
    total = 0.0
    for start in range(0, len(examples), size):
        batch = collate(examples[start : start + size], share=share)
        prefix = batch.prefix.shape[1]
        pairs = batch.prefix.shape[0] * prefix**2 / 2
        for group in batch.groups:
            rows, width = group.tokens.shape
            pairs += rows * width * (prefix + width / 2)
        total += step_flops(work, batch.computed_tokens, len(batch.targets), pairs, recompute=recompute)
    return total


def _naive(work: Workload, *, recompute: bool = False) -> Step:
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

    rows, length = batches[0][0].shape
    flops = 0.0
    for tokens, _ in batches:
        rows, length = tokens.shape
        length -= 1
        flops += step_flops(work, rows * length, rows * length, rows * length**2 / 2, recompute=recompute)

    def step(number: int) -> tuple[float, float]:
        with recomputed_layers(model, recompute):
            loss = compiled(batches)
            mx.eval(loss, state)
        return loss.item(), flops

    return step


def _padded(examples: Sequence[Scored], number: int) -> tuple[mx.array, mx.array]:
    rows = [(x.tokens, responses[number].tokens) for x, responses in examples]
    length = max(len(prompt) + len(response) for prompt, response in rows)
    tokens = [[*prompt, *response] + [0] * (length - len(prompt) - len(response)) for prompt, response in rows]
    masks = [
        [float(len(prompt) <= column < len(prompt) + len(response)) for column in range(1, length)]
        for prompt, response in rows
    ]
    return mx.array(tokens), mx.array(masks)


def _mlx_lm_lora(work: Workload, *, recompute: bool = False) -> Step:
    """mlx-lm-lora's DPO from its package, unmodified: two responses, and a reference that shares the weights."""
    from mlx_lm_lora.trainer.dpo_trainer import DPOTrainingArgs, train_dpo

    model, reference = random_model(work.shape), random_model("tiny")
    reference = type(model)(model.args)
    reference.update(model.parameters())
    reference.freeze()
    policy = with_adapter(model)
    policy.model.train()
    rows = [
        {
            "chosen": [*x.tokens, *responses[0].tokens], "chosen_prompt_length": len(x.tokens),
            "rejected": [*x.tokens, *responses[1].tokens], "rejected_prompt_length": len(x.tokens),
        }
        for x, responses in work.examples(2)
    ]  # fmt: skip
    seconds: list[float] = []

    class Clock:
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            seconds.append(1 / info["iterations_per_second"])

    def run(steps: int) -> None:
        arguments = DPOTrainingArgs(
            batch_size=work.triplets, iters=steps, steps_per_report=1, steps_per_save=10**9, val_batches=0,
            max_seq_length=4096, grad_checkpoint=recompute, adapter_file="/dev/null",
        )  # fmt: skip
        optimizer = optim.AdamW(learning_rate=1e-4, weight_decay=0.0)
        train_dpo(policy.model, reference, optimizer, rows, args=arguments, training_callback=Clock())

    raise NotImplementedError(run)


ARMS: dict[str, Callable[[Workload], Step]] = {
    "shared": _ours,
    "shared, recompute": partial(_ours, recompute=True),
    "stacked": partial(_ours, share=False),
    "naive": _naive,
    "naive, recompute": partial(_naive, recompute=True),
}
