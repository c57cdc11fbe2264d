"""One iteration, answering all prompts and an epoch of training on the answers, in two ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import mlx.core as mx
import mlx.optimizers as optim

from tspin_mlx.generation.batch import Decoding, generate
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.schema import LoraSection, ModelSection
from tspin_mlx.training.trainer import Gradients, Trainer

from .generation import one_by_one
from .rounds import Measured
from .step import OBJECTIVE, train_config, train_mlx_lm_lora
from .workload import Answering, builtin_policy

_BATCH = 4  # examples per optimiser step


def measure(arm: str, work: Answering, repeat: int) -> Measured:
    """Seconds and the memory left in use of each iteration after the first."""
    seconds, active = [], []
    mx.reset_peak_memory()
    iterations = ARMS[arm](work)
    begun = time.perf_counter()
    for _ in range(repeat + 1):
        next(iterations)
        seconds.append(time.perf_counter() - begun)
        active.append(mx.get_active_memory())
        begun = time.perf_counter()
    return {"seconds": seconds[1:], "active_bytes": active[1:], "peak_bytes": mx.get_peak_memory()}


def ours(work: Answering) -> Iterator[None]:
    """Triplets: this policy's answers against the expert's, and against the very first ones."""
    policy = builtin_policy()
    prompts = work.examples(policy)
    gradients = Gradients(policy)
    config = train_config(batch_size=_BATCH, micro_batch_size=_BATCH, steps=-(-len(prompts) // _BATCH))
    decoding = Decoding(1.0, 1.0, work.max_tokens, work.batch)
    seeds = range(len(prompts))
    first = generate(policy, prompts, seeds, decoding)
    number = 0
    while True:
        number += 1
        synthetic = generate(policy, prompts, [seed + 10**6 * number for seed in seeds], decoding)
        examples = [(x, (x.annotated, y, y0)) for x, y, y0 in zip(prompts, synthetic, first, strict=True)]
        Trainer(policy, OBJECTIVE, config, number, gradients).run(examples, lambda step, metrics: None)
        yield


def mlx_lm_and_mlx_lm_lora(work: Answering) -> Iterator[None]:
    """mlx-lm's answers, one prompt after another, and an epoch of mlx-lm-lora's DPO on pairs, with its reference."""
    policy = builtin_policy()
    reference = load_policy(resolve_model(ModelSection()), "auto", LoraSection(rank=1), 0).model.freeze()
    prompts = work.examples(policy)
    optimizer = optim.AdamW(learning_rate=1e-6, weight_decay=0.0)
    while True:
        policy.model.eval()
        answers = one_by_one(policy, prompts, work)
        policy.model.train()
        pairs = [(x.tokens, x.annotated.tokens, tuple(answer)) for x, answer in zip(prompts, answers, strict=True)]
        train_mlx_lm_lora(policy, reference, optimizer, pairs, batch_size=_BATCH, steps=-(-len(pairs) // _BATCH))
        yield


ARMS: dict[str, Callable[[Answering], Iterator[None]]] = {
    "ours": ours,
    "mlx-lm one by one + mlx-lm-lora DPO": mlx_lm_and_mlx_lm_lora,
}
