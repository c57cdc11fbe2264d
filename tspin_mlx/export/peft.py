"""Convert an adapter from mlx-lm's to PEFT's format, for transformers, vLLM and others.

mlx-lm computes ``y + scale * (x @ lora_a) @ lora_b``, PEFT ``y + lora_alpha / r * (x @ lora_A.T) @ lora_B.T``; in both,
DoRA scales the rows of the sum by a learnt magnitude. So every matrix is transposed, and ``lora_alpha`` is the scale
times the rank.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..base.errors import SetupError, UsageError
from ..models.folder import read_json

#: Model types whose modules have the same names in mlx-lm and in transformers, as tested. For others, the names in the
#: weight files decide, if those are as published and not converted.
SAME_NAMES = frozenset(
    {"gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
)

_LAYER = re.compile(r"\blayers\.(\d+)\.")
_INSTEAD = "export it for mlx-lm with --format mlx, or fuse it into a whole model"


def to_peft(
    tensors: dict[str, mx.array], config: dict[str, Any], base: Path, base_id: str | None
) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """Convert an adapter.

    Args:
        tensors: mlx-lm's, by name: ``P.lora_a`` (inputs, rank), ``P.lora_b`` (rank, outputs), ``P.m`` (outputs,).
        config: mlx-lm's ``adapter_config.json``.
        base: folder of the adapter's base model.
        base_id: the base model that PEFT should load.

    Returns:
        Tensors for ``adapter_model.safetensors`` and the content of PEFT's ``adapter_config.json``.

    Raises:
        UsageError: PEFT does not support such an adapter, or its module names are not known.
    """
    modules = sorted({name.rsplit(".", 1)[0] for name in tensors})
    weights = _shapes(base)
    _check_names(modules, weights, base)
    dora = config["fine_tune_type"] == "dora"
    if wide := [name for name, value in tensors.items() if value.ndim > 2]:
        raise UsageError(f"PEFT does not support adapters of experts ({wide[0]})", hint=_INSTEAD)
    embeddings = {name for name in modules if weights[f"{name}.weight"][0] != tensors[f"{name}.lora_b"].shape[1]}
    _check_embeddings(embeddings, dora, "lm_head.weight" in weights)
    rank, scale = config["lora_parameters"]["rank"], config["lora_parameters"]["scale"]
    alpha = scale * rank
    peft_config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_id,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": config["lora_parameters"]["dropout"],
        "use_dora": dora,
        "use_rslora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        **_targets(modules, weights),
    }
    return {_renamed(name, embeddings): _transposed(value) for name, value in tensors.items()}, peft_config


def _renamed(name: str, embeddings: Iterable[str]) -> str:
    module, leaf = name.rsplit(".", 1)
    if leaf == "m":
        new = "lora_magnitude_vector"
    elif module in embeddings:
        new = {"lora_a": "lora_embedding_A", "lora_b": "lora_embedding_B"}[leaf]
    else:
        new = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}[leaf]
    return f"base_model.model.{module}.{new}"


def _transposed(value: mx.array) -> mx.array:
    return mx.contiguous(value.T) if value.ndim == 2 else value


def _targets(modules: list[str], weights: Iterable[str]) -> dict[str, Any]:
    """Return PEFT's settings that select exactly these modules: by the ends of their names, and by layers if needed.

    If that would select others too, every module is named in full.
    """
    leaves = sorted({module.rsplit(".", 1)[-1] for module in modules})
    layers = sorted({int(match[1]) for module in modules if (match := _LAYER.search(module))})
    known = {name.removesuffix(".weight") for name in weights if name.endswith(".weight")}
    like = {module for module in known if module.rsplit(".", 1)[-1] in leaves}
    if like == set(modules):
        return {"target_modules": leaves, "layers_to_transform": None, "layers_pattern": None}
    chosen = {module for module in like if (match := _LAYER.search(module)) and int(match[1]) in layers}
    if chosen == set(modules):
        return {"target_modules": leaves, "layers_to_transform": layers, "layers_pattern": "layers"}
    return {"target_modules": modules, "layers_to_transform": None, "layers_pattern": None}


def _check_names(modules: list[str], weights: Collection[str], base: Path) -> None:
    config = read_json(base)
    kind = config.get("model_type")
    missing = [module for module in modules if f"{module}.weight" not in weights]
    if kind in SAME_NAMES and not missing:
        return
    if missing or "quantization" in config:
        raise UsageError(
            f"PEFT's names of the modules of {kind} models are not known ({(missing or modules)[0]!r}, ...)",
            hint=_INSTEAD,
        )


def _check_embeddings(embeddings: set[str], dora: bool, has_own_head: bool) -> None:
    if embeddings and dora:
        raise UsageError(f"PEFT computes DoRA of an embedding ({min(embeddings)}) differently", hint=_INSTEAD)
    if embeddings and not has_own_head:
        raise UsageError(
            f"{min(embeddings)} is also the LM head: mlx-lm adapts both uses, PEFT only the first", hint=_INSTEAD
        )


def _shapes(base: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors in the model's files, by name; only the headers are read."""
    try:
        files = [mx.load(str(file)) for file in base.glob("model*.safetensors")]
    except RuntimeError as error:
        raise SetupError(f"{base}: {error}") from None
    return {name: value.shape for tensors in files for name, value in tensors.items()}
