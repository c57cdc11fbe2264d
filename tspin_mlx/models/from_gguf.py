"""Import GGUF: convert a Llama GGUF file into a folder for mlx-lm, with weights, configuration and tokenizer.

Only what is known to be right is accepted: the llama architecture with SmolLM's byte-level BPE tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base import filesystem
from ..base.errors import SetupError
from ..base.machine import on_cpu

# GGUF tensor names inside a block -> mlx-lm's (Hugging Face's) names inside a layer.
_BLOCK = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

_SPECIAL_TOKEN_TYPES = (3, 4)  # control and user-defined
_GROUP_SIZE = 32  # of every GGUF type that MLX reads as quantised


def convert_gguf(source: Path, target: Path) -> None:
    """Convert the GGUF file ``source`` into the folder ``target``, which appears complete or not at all.

    Quantised matrices stay quantised, with the file's numbers. Everything else (norms, scales) becomes float16 on a
    GPU and float32 on a CPU, where MLX's half precision is about thirty times slower.

    Raises:
        SetupError: not a GGUF file, or an architecture or tokenizer that this converter does not know.
    """
    import mlx.core as mx

    try:
        tensors, metadata = mx.load(str(source), return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise SetupError(f"{source}: not a GGUF file that MLX can read ({error})") from None
    meta = {key: _plain(value) for key, value in metadata.items()}
    if meta.get("general.architecture") != "llama":
        raise SetupError(
            f"{source}: GGUF architecture {meta.get('general.architecture')!r} is not supported, only 'llama'",
            hint="use the model's safetensors repository on the Hub instead",
        )
    weights = {}
    for name, value in tensors.items():
        stem, leaf = name.rsplit(".", 1)
        heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
        if (count := heads.get(stem.rsplit(".", 1)[-1])) is not None:
            value = _unpermute(value, meta[count])
        if mx.issubdtype(value.dtype, mx.floating):
            value = value.astype(mx.float32 if on_cpu() else mx.float16)
        weights[f"{_rename(stem)}.{leaf}"] = value
    config = _config(meta, weights)
    tokenizer = _tokenizer(meta, source)
    with filesystem.new_folder(target) as folder:
        mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
        (folder / "config.json").write_text(filesystem.to_json(config), encoding="utf-8")
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(filesystem.to_json(_tokenizer_config(meta)), encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _unpermute(value: Any, heads: int) -> Any:
    """Undo GGUF's interleaving of the rotary halves of each head.

    It moves whole rows, so it works for packed weights, scales and biases alike.
    """
    rows, columns = value.shape
    return value.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _rename(stem: str) -> str:
    if stem in _TOP:
        return _TOP[stem]
    _, layer, name = stem.split(".")
    return f"model.layers.{layer}.{_BLOCK[name]}"


def _config(meta: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    heads = meta["llama.attention.head_count"]
    hidden = meta["llama.embedding_length"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": hidden // heads,
        "max_position_embeddings": meta["llama.context_length"],
        "rms_norm_eps": round(meta["llama.attention.layer_norm_rms_epsilon"], 10),
        "rope_theta": meta["llama.rope.freq_base"],
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
    }
    quantized = [name for name in weights if name.endswith("q_proj.scales")]
    if quantized:
        # mlx-lm infers the bits of each matrix from its shape; this is only its default.
        packed = weights[quantized[0].replace("scales", "weight")].shape[-1]
        config["quantization"] = {"group_size": _GROUP_SIZE, "bits": packed * 32 // hidden}
    return config


def _tokenizer(meta: dict[str, Any], source: Path) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if meta.get("tokenizer.ggml.model") != "gpt2" or meta.get("tokenizer.ggml.pre") != "smollm":
        kind = f"{meta.get('tokenizer.ggml.model')}/{meta.get('tokenizer.ggml.pre')}"
        raise SetupError(
            f"{source}: GGUF tokenizer {kind!r} is not supported, only 'gpt2/smollm'",
            hint="use the model's safetensors repository on the Hub instead",
        )
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, meta["tokenizer.ggml.token_type"], strict=True)
    special = [token for token, kind in kinds if kind in _SPECIAL_TOKEN_TYPES]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
    tokens = meta["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[meta["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[meta["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[meta["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[meta["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": meta["llama.context_length"],
        "chat_template": meta["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
    }
