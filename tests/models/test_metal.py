"""What training avoids on Metal, as far as that can be seen on another machine."""

import importlib
import os

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import llama, qwen2
from mlx_lm.models.cache import KVCache, make_prompt_cache

from tspin_mlx.models.metal import attend_in_float32, spare_metal

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "vocab_size": 50, "rope_theta": 1e4}  # fmt: skip
GENERATE = importlib.import_module("mlx_lm.generate")
TOKENS = mx.arange(2, 18)[None]


@pytest.fixture
def spared(monkeypatch):
    """The same as on Metal, of which nothing is left afterwards."""
    for module in (llama, qwen2):
        monkeypatch.setattr(module, "scaled_dot_product_attention", module.scaled_dot_product_attention)
    monkeypatch.setattr(GENERATE, "maybe_set_recommended_wired_limit", lambda: 1)
    monkeypatch.delenv("MLX_SDPA_VJP_FALLBACK", raising=False)
    return spare_metal


def model(kind, **changes):
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    mx.random.seed(0)
    return module.Model(module.ModelArgs.from_dict({"model_type": kind, **SIZES, **changes}))


def test_where_keys_have_a_bias_gradients_are_those_of_attention_in_float32(spared):
    mx.random.seed(1)
    queries, keys, values, weights = mx.random.normal((4, 1, 2, 16, 16))
    keys = keys + 30  # the same for all keys: it changes no answer, and makes the products large
    inputs = [array.astype(mx.bfloat16) for array in (queries, keys, values)]

    def gradient(queries, keys, values):
        def total(queries):
            found = qwen2.scaled_dot_product_attention(queries, keys, values, cache=None, scale=0.25, mask="causal")
            return (found.astype(mx.float32) * weights).sum()

        return np.array(mx.grad(total)(queries).astype(mx.float32))

    exact = gradient(*(array.astype(mx.float32) for array in inputs))
    narrow = gradient(*inputs)
    spared(model("qwen2"))
    wide = gradient(*inputs)
    off, off_narrow = (np.linalg.norm(value - exact) / np.linalg.norm(exact) for value in (wide, narrow))
    assert off < 0.005 and off_narrow > 4 * off


def test_answers_are_sampled_as_ever_and_no_model_is_changed_twice(spared):
    made = model("qwen2")
    seen = []
    original = qwen2.scaled_dot_product_attention

    def watched(queries, *rest, **options):
        seen.append((queries.dtype, type(options["cache"])))
        return original(queries, *rest, **options)

    qwen2.scaled_dot_product_attention = watched
    made.set_dtype(mx.bfloat16)
    spared(made)
    once = qwen2.scaled_dot_product_attention
    attend_in_float32(vars(qwen2))
    assert qwen2.scaled_dot_product_attention is once
    assert made(TOKENS).dtype == mx.bfloat16
    made(TOKENS, cache=make_prompt_cache(made))
    assert seen == [(mx.float32, type(None)), (mx.bfloat16, KVCache)]


def test_models_without_such_a_bias_are_left_alone(spared):
    plain = llama.scaled_dot_product_attention
    spared(model("llama"))
    assert llama.scaled_dot_product_attention is plain
    assert "MLX_SDPA_VJP_FALLBACK" not in os.environ
    assert GENERATE.maybe_set_recommended_wired_limit() is None  # but nothing is wired down


def test_models_with_sinks_take_the_general_gradient(spared, monkeypatch):
    monkeypatch.setenv("MLX_SDPA_VJP_FALLBACK", "")
    monkeypatch.delenv("MLX_SDPA_VJP_FALLBACK")
    made = model("llama")
    made.layers[0].self_attn.sinks = mx.zeros((2,))
    spared(made)
    assert os.environ["MLX_SDPA_VJP_FALLBACK"] == "1"


def test_a_model_that_brings_its_own_code_is_no_module_of_anybodys(spared):
    names = dict(vars(qwen2)) | {"__name__": "custom_model"}  # as mlx-lm loads it: in no list of modules
    source = "class Attention(nn.Module):\n    def __call__(self, x):\n        return x\n"
    exec(source, names)
    made = model("qwen2")
    own = names["Attention"]()
    own.k_proj = made.layers[0].self_attn.k_proj
    made.layers[0].self_attn = own
    plain = names["scaled_dot_product_attention"]
    spared(made)
    assert names["scaled_dot_product_attention"] is not plain
