"""Batch generation with a seeded sampler per prompt and a shared KV cache for the prompts' common prefix.

One of the few modules that import mlx-lm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mlx.core as mx

from ..base.machine import on_cpu
from ..base.progress import OnProgress
from ..method.triplets import Prompt, Response, common_prefix
from ..models.adapters import fused
from ..models.load import Policy

Sampler = Callable[[mx.array], mx.array]

_WORTH_SHARING = 4  # tokens


@dataclass(frozen=True)
class Decoding:
    """Sampling settings.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus sampling, in (0, 1]; 1 is off.
        max_tokens: longest response, at least 1.
        batch_size: prompts answered at once.
    """

    temperature: float
    top_p: float
    max_tokens: int
    batch_size: int


def generate(
    policy: Policy,
    prompts: Sequence[Prompt],
    seeds: Sequence[int | None],
    decoding: Decoding,
    on_progress: OnProgress | None = None,
) -> list[Response]:
    """Generate one response per prompt, in the prompts' order.

    Each prompt's sampler has its own seed and counts its own tokens, so samples do not depend on the batch size or on
    the order of the prompts (except through the backend's rounding of logits).

    Args:
        seeds: one per prompt; None decodes greedily.
        decoding: sampling settings.
        on_progress: called after each round of tokens with the numbers of finished responses and of tokens so far,
            and the seconds since the start. An exception from it ends the generation.
    """
    policy.model.eval()  # no dropout; BatchGenerator does not do it
    with fused(policy):
        return _generate(policy, prompts, seeds, decoding, on_progress)


def _generate(
    policy: Policy,
    prompts: Sequence[Prompt],
    seeds: Sequence[int | None],
    decoding: Decoding,
    on_progress: OnProgress | None,
) -> list[Response]:
    from mlx_lm.generate import BatchGenerator

    # Longest first: neighbours in a batch then have similar lengths and need little padding.
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].tokens))
    shared = common_length([prompt.tokens for prompt in prompts])
    end_tokens = set(policy.tokenizer.eos_token_ids)
    generator = BatchGenerator(
        policy.model,
        stop_tokens=[[token] for token in sorted(end_tokens)],
        completion_batch_size=decoding.batch_size,
        prefill_batch_size=decoding.batch_size,
    )
    ids = generator.insert(
        [list(prompts[i].tokens[shared:]) for i in order],
        caches=[_prefilled(policy, prompts[0].tokens[:shared])] * len(order) if shared else None,
        max_tokens=[_fitting(policy, prompts[i], decoding.max_tokens) for i in order],
        samplers=[keyed_sampler(seeds[i], decoding) for i in order],
    )
    index_of = dict(zip(ids, order, strict=True))
    tokens: list[list[int]] = [[] for _ in prompts]
    responses: dict[int, Response] = {}
    started, produced = time.perf_counter(), 0
    try:
        while batch := generator.next_generated():
            for event in batch:
                i = index_of[event.uid]
                tokens[i].append(event.token)
                produced += 1
                if event.finish_reason is None:
                    continue
                responses[i] = _response(policy, tokens[i], event.finish_reason, seeds[i], end_tokens)
            if on_progress is not None:
                on_progress(len(responses), produced, time.perf_counter() - started)
    finally:
        generator.close()
    return [responses[i] for i in range(len(prompts))]


def _fitting(policy: Policy, prompt: Prompt, wanted: int) -> int:
    """Limit the number of new tokens to the model's context length; at least one."""
    return wanted if policy.window is None else max(1, min(wanted, policy.window - len(prompt.tokens)))


def common_length(prompts: Sequence[tuple[int, ...]]) -> int:
    """Count the tokens that all prompts begin with, such as a system prompt's; 0 if sharing them is not worthwhile.

    Every prompt keeps a token of its own, at which its answer begins.
    """
    first, last = min(prompts), max(prompts)  # in lexicographic order these two differ first
    shortest = min(map(len, prompts)) - 1
    same = min(common_prefix(first, last), shortest)
    return same if len(prompts) > 1 and same >= _WORTH_SHARING else 0


def _prefilled(policy: Policy, tokens: Sequence[int]) -> list[Any]:
    """Compute the KV cache of the prompts' common prefix; the generator copies it for each prompt."""
    from mlx_lm.models.cache import make_prompt_cache

    cache: list[Any] = make_prompt_cache(policy.model)
    policy.model(mx.array([tokens]), cache=cache)
    mx.eval([layer.state for layer in cache])
    return cache


def keyed_sampler(seed: int | None, decoding: Decoding) -> Sampler:
    """Return a sampler for one prompt; token number n always uses the random key ``seed + n``."""
    from mlx_lm.sample_utils import apply_top_p, greedy_sampler

    if seed is None or decoding.temperature == 0:
        greedy: Sampler = greedy_sampler
        return greedy
    position = -1

    def sample(logprobs: mx.array) -> mx.array:
        nonlocal position
        position += 1
        if decoding.top_p < 1:
            logprobs = apply_top_p(logprobs, decoding.top_p)
        return _draw()(logprobs, mx.random.key(seed + position), decoding.temperature)

    return sample


@cache
def _draw() -> Callable[[mx.array, mx.array, float], mx.array]:
    """Return the sampling function, compiled on a GPU to fuse its eleven kernel launches per row and token."""
    draw: Callable[[mx.array, mx.array, float], mx.array] = _gumbel_max if on_cpu() else mx.compile(_gumbel_max)
    return draw


def _gumbel_max(logprobs: mx.array, key: mx.array, temperature: float) -> mx.array:
    # Not mx.random.categorical, which inverts a cumulative sum: rounding of any logit moves the boundaries between all
    # tokens there, so samples would change with the batch size.
    noise = mx.random.gumbel(logprobs.shape, key=key)
    return mx.argmax(logprobs.astype(mx.float32) / temperature + noise, axis=-1)


def _response(policy: Policy, tokens: list[int], reason: str, seed: int | None, end_tokens: set[int]) -> Response:
    body = tokens[:-1] if tokens[-1] in end_tokens else tokens
    return Response(
        tokens=tuple(tokens),
        text=policy.tokenizer.decode(body),
        finish_reason="stop" if reason == "stop" else "length",
        seed=seed,
    )
