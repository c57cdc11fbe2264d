"""T-SPIN from top to bottom: Triplet-based Self-Play Fine-Tuning (arXiv 2601.08198).

The policy answers each prompt itself. Its LoRA adapter then learns to prefer the expert's answer y to the policy's
current answer y', and y' to y0, what the policy said at the very start. There is no reward model and no reference
model: both preferences are read off the policy's own log-probabilities.

:mod:`tspin_mlx.engine` does the same in phases that survive a kill, and measures the policy in between; a test compares
the adapters of the two bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .base.progress import OnProgress
from .base.seeds import derive
from .generation.batch import Decoding, generate
from .method.objective import Objective
from .method.triplets import Prompt, Response, build_triplets
from .models.load import Policy
from .recipe.phase import TrainConfig
from .training.trainer import Gradients, Trainer


def tspin(
    policy: Policy,
    prompts: Sequence[Prompt],
    iterations: int,
    decoding: Decoding,
    objective: Objective,
    config: TrainConfig,
    seed: int,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> None:
    """Train the policy's adapter in place by triplet self-play.

    Args:
        policy: a model with an adapter, maybe after supervised training; its answers now are y0.
        prompts: with the expert's answers y.
        iterations: of self-play (paper: 5).
        decoding: how y' and y0 are sampled.
        objective: alpha, and beta from the second iteration on; see :func:`tspin_mlx.method.losses.batch_loss`.
        config: the optimiser's steps in one iteration.
        seed: of samples, order and dropout.
        on_step: called after each update with its number within the iteration and its metrics.
    """
    gradients = Gradients(policy)  # compiled once for all iterations
    proto_synthetic: list[Response] = []
    for t in range(iterations):
        # The policy answers every prompt: y'. In the first iteration these answers are also y0, which stays.
        synthetic = answer(policy, prompts, decoding, derive(seed, "generate", t))
        proto_synthetic = proto_synthetic or synthetic

        # Where y' is y0 there is nothing to prefer between them: the historical term is off at first.
        beta = objective.beta if t else 0.0
        triplets = build_triplets(prompts, synthetic, proto_synthetic if beta else None)

        # Each update lowers  l(alpha u) + beta l(alpha v),  l(z) = -log sigmoid(z),  with the policy's
        #     u = log pi(y) - log pi(y'),  the current advantage:     the expert's answer over the policy's own;
        #     v = log pi(y') - log pi(y0), the historical advantage:  its own answer over that of the start.
        trainer = Trainer(policy, replace(objective, beta=beta), config, derive(seed, "train", t), gradients)
        trainer.run([(x.prompt, x.responses(objective.contrast_tokens)) for x in triplets], on_step)


def answer(
    policy: Policy, prompts: Sequence[Prompt], decoding: Decoding, seed: int, on_progress: OnProgress | None = None
) -> list[Response]:
    """Sample the policy's answer to each prompt. A sample depends on the seed and its prompt, not on the batch."""
    return generate(policy, prompts, [derive(seed, prompt.id) for prompt in prompts], decoding, on_progress)
