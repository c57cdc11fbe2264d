"""Greedy answers to many prompts, in several ways. Each arm is run in a process of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import mlx.core as mx
from mlx_lm.generate import batch_generate, generate_step

from tspin_mlx.evaluation.measure import answer_greedily
from tspin_mlx.method.triplets import Prompt
from tspin_mlx.models.load import Policy

from .rounds import Measured
from .workload import Answering, builtin_policy

#: Tokens of all answers, without end tokens, in the prompts' order.
Arm = Callable[[Policy, list[Prompt], Answering], list[list[int]]]


def measure(arm: str, work: Answering, repeat: int) -> Measured:
    """Seconds for all answers, so many times after a short run that is not counted."""
    policy = builtin_policy()
    prompts = work.examples(policy)
    ARMS[arm](policy, prompts[: work.batch], Answering(work.batch, 4, work.batch))
    mx.reset_peak_memory()
    seconds = []
    for _ in range(repeat):
        begun = time.perf_counter()
        answers = ARMS[arm](policy, prompts, work)
        seconds.append(time.perf_counter() - begun)
    return {
        "seconds": seconds,
        "peak_bytes": mx.get_peak_memory(),
        "tokens": sum(map(len, answers)),
        "answers": hashlib.sha256(repr(answers).encode()).hexdigest(),
    }


def ours(policy: Policy, prompts: list[Prompt], work: Answering) -> list[list[int]]:
    """Longest prompts first, what they share computed once, the adapter fused."""
    found = answer_greedily(policy, prompts, work.max_tokens, work.batch)
    ends = policy.tokenizer.eos_token_ids
    return [[token for token in response.tokens if token not in ends] for response in found]


def in_given_order(policy: Policy, prompts: list[Prompt], work: Answering) -> list[list[int]]:
    """mlx-lm's batched generation, as it comes."""
    tokens = [list(prompt.tokens) for prompt in prompts]
    found = batch_generate(
        policy.model, policy.tokenizer, tokens, max_tokens=work.max_tokens, return_token_ids=True,
        completion_batch_size=work.batch, prefill_batch_size=work.batch,
    )  # fmt: skip
    return found.token_ids


def one_by_one(policy: Policy, prompts: list[Prompt], work: Answering) -> list[list[int]]:
    """mlx-lm's generation of one prompt after another."""
    answers = []
    for prompt in prompts:
        answers.append([])
        for token, _ in generate_step(mx.array(prompt.tokens), policy.model, max_tokens=work.max_tokens):
            if token in policy.tokenizer.eos_token_ids:
                break
            answers[-1].append(token)
    return answers


ARMS: dict[str, Arm] = {"ours": ours, "mlx-lm batched": in_given_order, "mlx-lm one by one": one_by_one}
