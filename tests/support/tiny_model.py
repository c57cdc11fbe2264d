"""A tiny random llama whose tokens are bytes, as a model folder on disk and as a policy."""

from __future__ import annotations

import json
from pathlib import Path

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def save_tiny_model(folder: Path, *, tied: bool = True, head_dim: int = 8) -> None:
    """Write config, weights and tokenizer of a tiny llama."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*special, *alphabet])}
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 256,
        "vocab_size": len(vocab),
        "tie_word_embeddings": tied,
        "eos_token_id": 1,
    }
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(config))
    # Larger weights than the default ones, so that the policy has opinions to differ by.
    weights = {name: value * 2 if value.ndim > 1 else value for name, value in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def tiny_policy(folder: Path, seed: int = 0, dtype: str = "auto", **lora):
    """The model in ``folder`` with an untouched adapter, of rank 4 unless ``lora`` says otherwise."""
    from tspin_mlx.models.folder import resolve_model
    from tspin_mlx.models.load import load_policy
    from tspin_mlx.recipe.schema import LoraSection, ModelSection

    section = LoraSection(**{"rank": 4, **lora})
    return load_policy(resolve_model(ModelSection(path=str(folder))), dtype, section, seed)


def perturb(policy, seed: int):
    """Give the policy an adapter that does something: an untouched one has no effect."""
    import mlx.core as mx

    mx.random.seed(seed)
    changed = [(name, value + 0.1 * mx.random.normal(value.shape)) for name, value in policy.adapter().items()]
    policy.model.load_weights(changed, strict=False)
    return policy
