"""What MLX 0.32.4 and mlx-lm do on Metal that training is better spared. Read in their sources; not met on a Mac.

One of the few modules that touch mlx-lm.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..scoring.prefix import PrefixCache

#: Layers that make keys, alone or with queries and values.
_KEYS = ("k_proj", "qkv_proj", "query_key_value", "c_attn", "wqkv", "Wqkv")


def spare_metal(model: nn.Module) -> None:
    """Set up a model that was just loaded, and this process, for Metal. Elsewhere it is not called."""
    generate = importlib.import_module("mlx_lm.generate")  # the package has a function of this name
    # With all of its working set wired down for generation, others saw macOS panic, and without not
    # (https://github.com/ml-explore/mlx/issues/3186).
    generate.maybe_set_recommended_wired_limit = lambda: None  # type: ignore[attr-defined]
    if any("sink" in name for name, _ in tree_flatten(model.parameters())):
        # Metal's own gradient of attention knows no sinks; with this MLX takes the general one.
        os.environ.setdefault("MLX_SDPA_VJP_FALLBACK", "1")
    for _, part in model.named_modules():
        if any("bias" in part.get(name, {}) for name in _KEYS):
            attend_in_float32(type(part).__call__.__globals__)


def attend_in_float32(names: dict[str, Any]) -> None:
    """Let a model's attention, where it is scored or trained, compute in float32; its answers are sampled as ever.

    Metal's gradient keeps the products of queries and keys unscaled in the model's type. A bias of the keys, as in
    Qwen2 and Qwen2.5, makes them large: in bfloat16 little is then left of the gradient, and float16 overflows.

    Args:
        names: of the module in which the attention is written, which may be the model's own.
    """
    original = names.get("scaled_dot_product_attention")
    if original is None or getattr(original, "in_float32", False):
        return

    def attention(queries: mx.array, keys: mx.array, values: mx.array, cache: Any = None, **options: Any) -> mx.array:
        if not (cache is None or isinstance(cache, PrefixCache)):  # a generation's
            return original(queries, keys, values, cache=cache, **options)
        wide = (array.astype(mx.float32) for array in (queries, keys, values))
        return original(*wide, cache=cache, **options).astype(queries.dtype)

    attention.in_float32 = True  # type: ignore[attr-defined]
    names["scaled_dot_product_attention"] = attention
