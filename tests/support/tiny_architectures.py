"""Tiny random models of many architectures, as mlx-lm makes them from a configuration."""

from __future__ import annotations

import importlib

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5, "vocab_size": 99, "rope_theta": 10000.0,
    "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip

_GEMMA4 = {
    "head_dim": 8, "global_head_dim": 8, "vocab_size_per_layer_input": 99, "hidden_size_per_layer_input": 8,
    "sliding_window": 128, "sliding_window_pattern": 2,
}  # fmt: skip

#: Module of mlx-lm, and what its configuration has beyond the sizes.
ARCHITECTURES = {
    "llama": {},
    "llama-untied": {"tie_word_embeddings": False},
    "mistral": {"model_type": "mistral"},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3_text": {"sliding_window": 128, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    "phi3": {},
    "phi": {"partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5},
    "stablelm": {"rope_pct": 0.25, "layer_norm_eps": 1e-5, "use_qkv_bias": False, "partial_rotary_factor": 0.5},
    "gemma4_text": {**_GEMMA4, "num_kv_shared_layers": 0},
    "gemma4_text-shared": {**_GEMMA4, "num_kv_shared_layers": 1},
    "hunyuan": {
        "use_cla": True,
        "cla_share_factor": 2,
        "num_experts": 1,
        "moe_topk": 1,
        "num_shared_expert": 1,
        "use_mixed_mlp_moe": False,
        "use_qk_norm": True,
        "attention_head_dim": 8,
        "attention_bias": False,
        "rope_scaling": {"alpha": 1.0, "factor": 1.0, "type": "dynamic"},
    },
    "afm7": {
        "num_layers": 4,
        "num_kv_reuse_layers": 2,
        "hidden_dim": 32,
        "num_heads": 4,
        "num_kv_heads": 2,
        "hidden_dim_scale_factor": 2.0,
    },
    "smollm3": {"no_rope_layers": [1, 0, 1], "attention_bias": False, "mlp_bias": False},
}


def tiny_architecture(name: str, **changes):
    """A random model with an adapter that does something; ``changes`` are to its configuration."""
    module = importlib.import_module(f"mlx_lm.models.{'llama' if name == 'mistral' else name.split('-')[0]}")
    config = {"model_type": name.split("-")[0], **SIZES, **ARCHITECTURES[name], **changes}
    mx.random.seed(0)
    model = module.Model(module.ModelArgs.from_dict(config))
    model.set_dtype(mx.float32)
    model.freeze()
    linear_to_lora_layers(model, 0, {"rank": 4, "scale": 2.0, "dropout": 0.0})
    mx.random.seed(1)
    changed = [(n, v + 0.1 * mx.random.normal(v.shape)) for n, v in tree_flatten(model.trainable_parameters())]
    model.load_weights(changed, strict=False)
    model.eval()
    return model
