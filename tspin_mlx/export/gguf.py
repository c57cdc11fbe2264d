"""Export the fused model as a 16-bit GGUF file for llama.cpp, Ollama and LM Studio.

Tensor names and the order of rotary rows come from mlx-lm (``mlx_lm.gguf``), the metadata from here: mlx-lm describes
every tokenizer as SentencePiece with equal scores, with which llama.cpp tokenises differently from the model. Models
whose tokenisation is not known to match are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx

from ..base.errors import UsageError
from ..models.adapters import load_tensors
from ..models.folder import chat_template, read_json
from ..models.rope import rope_settings
from .adapter import origin_of
from .folder import Export, make_export
from .fuse import fuse
from .source import Source

_TYPES = ("llama", "mistral")

# tokenizer.json's pre-tokenizer -> llama.cpp's name for it.
_DIGITS_THEN_BYTES = [
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": False},
]
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_F16 = 1  # general.file_type: matrices in float16, the rest in float32
_INSTEAD = "use `tspin-mlx fuse`, whose folder llama.cpp's convert_hf_to_gguf.py can convert"


def check_gguf(base: Path) -> None:
    """Check that a model can be exported, before anything is computed.

    Raises:
        UsageError: its type, RoPE settings or tokenizer are not supported.
    """
    config, tokenizer = read_json(base), read_json(base, "tokenizer.json")
    kind = config.get("model_type")
    if kind not in _TYPES:
        raise UsageError(f"GGUF export supports {' and '.join(_TYPES)} models, not {kind}", hint=_INSTEAD)
    scaling = {**config, **rope_settings(config)}.get("rope_scaling") or {}
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise UsageError("GGUF export does not support models with scaled RoPE", hint=_INSTEAD)
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise UsageError("GGUF export does not support models with biases", hint=_INSTEAD)
    if tokenizer.get("model", {}).get("type") != "BPE" or _pre_tokenizer(tokenizer) is None:
        raise UsageError(
            "GGUF export does not support this tokenizer: llama.cpp might split text differently", hint=_INSTEAD
        )


def export_gguf(source: Source, name: str | None = None) -> Export:
    """Fuse, check, and write the fused model as ``model-f16.gguf`` with an Ollama ``Modelfile``.

    Raises:
        UsageError: see :func:`check_gguf`.
        FusedAnother: see :func:`tspin_mlx.export.fuse.fuse`.
    """
    check_gguf(source.base.folder)
    fused = fuse(source)

    def fill(folder: Path) -> dict[str, Any]:
        write_gguf(fused.path, folder / "model-f16.gguf")
        (folder / "Modelfile").write_text(_modelfile(source), encoding="utf-8")
        return {"agreement": fused.note["agreement"]}

    label = f"{source.label}-gguf" if name is None else name
    return make_export(source.run.exports, label, origin_of(source, "gguf"), fill)


def write_gguf(model: Path, target: Path) -> None:
    """Convert a model folder without quantised weights to a GGUF file."""
    from mlx_lm.gguf import permute_weights, translate_weight_names

    config = read_json(model)
    heads = config["num_attention_heads"]
    turned = {"q_proj": heads, "k_proj": config.get("num_key_value_heads", heads)}
    weights = {}
    for file in sorted(model.glob("model*.safetensors")):
        for name, value in load_tensors(file).items():
            if (count := turned.get(name.split(".")[-2])) is not None:
                value = permute_weights(value, count)
            weights[translate_weight_names(name)] = value.astype(mx.float32 if value.ndim == 1 else mx.float16)
    mx.save_gguf(str(target), weights, _metadata(config, model, len(weights["token_embd.weight"])))


def _metadata(config: dict[str, Any], model: Path, rows: int) -> dict[str, Any]:
    heads = config["num_attention_heads"]
    numbers = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "rope.dimension_count": config.get("head_dim") or config["hidden_size"] // heads,
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads", heads),
        "attention.key_length": config.get("head_dim") or config["hidden_size"] // heads,
        "attention.value_length": config.get("head_dim") or config["hidden_size"] // heads,
        "vocab_size": rows,
    }
    return {
        "general.architecture": "llama",
        "general.name": model.parent.parent.name,
        "general.file_type": mx.array(_F16, mx.uint32),
        **{f"llama.{name}": mx.array(value, mx.uint32) for name, value in numbers.items()},
        "llama.rope.freq_base": mx.array(config.get("rope_theta", 10000.0), mx.float32),
        "llama.attention.layer_norm_rms_epsilon": mx.array(config["rms_norm_eps"], mx.float32),
        **_vocabulary(model, rows),
    }


def _vocabulary(model: Path, rows: int) -> dict[str, Any]:
    tokenizer, settings = read_json(model, "tokenizer.json"), read_json(model, "tokenizer_config.json")
    tokens = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    types = dict.fromkeys(tokens, _NORMAL)
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    fields: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _pre_tokenizer(tokenizer),
        # Unused rows of the embedding need a name too.
        "tokenizer.ggml.tokens": [tokens.get(number, f"[PAD{number}]") for number in range(rows)],
        "tokenizer.ggml.token_type": mx.array([types.get(number, _UNUSED) for number in range(rows)], mx.int32),
        "tokenizer.ggml.merges": merges,
    }
    numbers = {token: number for number, token in tokens.items()}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        token = settings.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token in numbers:
            fields[f"tokenizer.ggml.{key}_token_id"] = mx.array(numbers[token], mx.uint32)
    if (chat := chat_template(model)) is not None:
        fields["tokenizer.chat_template"] = chat
    return fields


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name of the pre-tokenizer; None if it is unknown."""
    settings = tokenizer.get("pre_tokenizer") or {}
    parts = settings.get("pretokenizers", [settings])
    plain = [
        {key: part[key] for key in like if key in part} for part, like in zip(parts, _DIGITS_THEN_BYTES, strict=False)
    ]
    if len(parts) == len(_DIGITS_THEN_BYTES) and plain == _DIGITS_THEN_BYTES and not tokenizer.get("normalizer"):
        return "smollm"
    return None


def _modelfile(source: Source) -> str:
    system = source.run.system_prompt()
    system_line = f'SYSTEM """{system}"""\n' if system and '"""' not in system else ""
    return f"FROM ./model-f16.gguf\n{system_line}PARAMETER temperature 0\n"
