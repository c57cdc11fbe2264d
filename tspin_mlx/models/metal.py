"""Workarounds for training on Metal: no wired memory, attention sinks, float32 attention where keys have a bias.

For MLX 0.32.4; found in its and mlx-lm's sources, not tested on a Mac. One of the few modules that import mlx-lm.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..scoring.prefix import PrefixCache

#: Layers that compute keys, alone or with queries and values.
_KEYS = ("k_proj", "qkv_proj", "query_key_value", "c_attn", "wqkv", "Wqkv")


def spare_metal(model: nn.Module) -> None:
    """Prepare a newly loaded model and this process for Metal; only called there."""
    generate = importlib.import_module("mlx_lm.generate")  # the package has a function of this name
    # Wiring the whole working set for generation made macOS panic for others; without it there was no panic
    # (https://github.com/ml-explore/mlx/issues/3186).
    generate.maybe_set_recommended_wired_limit = lambda: None  # type: ignore[attr-defined]
    if any("sink" in name for name, _ in tree_flatten(model.parameters())):
        # Metal's attention gradient does not support sinks; this makes MLX use the general one.
        os.environ.setdefault("MLX_SDPA_VJP_FALLBACK", "1")
    for _, part in model.named_modules():
        if any("bias" in part.get(name, {}) for name in _KEYS):
            attend_in_float32(type(part).__call__.__globals__)


def attend_in_float32(names: dict[str, Any]) -> None:
    """Compute a model's attention in float32 in scoring and training; generation is unchanged.

    Metal's gradient keeps the products of queries and keys unscaled in the model's dtype. A bias of the keys, as in
    Qwen2 and Qwen2.5, makes them large: bfloat16 then loses most of the gradient, and float16 overflows.

    Args:
        names: globals of the module that defines the attention, in which it is replaced.
    """
    original = names.get("scaled_dot_product_attention")
    if original is None or getattr(original, "in_float32", False):
        return

    def attention(queries: mx.array, keys: mx.array, values: mx.array, cache: Any = None, **options: Any) -> mx.array:
        if not (cache is None or isinstance(cache, PrefixCache)):  # the KV cache of generation
            return original(queries, keys, values, cache=cache, **options)
        wide = (array.astype(mx.float32) for array in (queries, keys, values))
        return original(*wide, cache=cache, **options).astype(queries.dtype)

    attention.in_float32 = True  # type: ignore[attr-defined]
    names["scaled_dot_product_attention"] = attention
