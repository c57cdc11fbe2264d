"""Fuse a LoRA adapter into the model's weights, optionally quantise, and verify the result by KL divergence.

One of the few modules that import mlx-lm.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..base.errors import SetupError, TspinError
from ..base.filesystem import check_space
from ..base.machine import on_cpu
from ..base.seeds import derive
from ..models.adapters import set_adapter
from ..models.folder import open_model, read_json
from ..models.load import cast, load_policy
from ..models.rope import rope_settings
from .adapter import origin_of
from .agreement import Agreement, agreement, distributions, held_out
from .folder import Export, make_export
from .source import Source

#: Largest mean KL divergence, in nats per position, between a fused model and the model with the adapter.
MAX_KL = 0.005

#: Largest loss as a share of the adapter's own effect, both as mean KL divergence.
_LOST = 0.5
#: Mean KL divergence that rounding alone may cause, in nats per position: in bfloat16 (but no more than the adapter's
#: own effect), and in float32.
_ROUNDING, _NOISE = 1e-3, 1e-6

#: Files of a model folder besides weights and configuration; no Python files.
_BESIDE = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*",
    "generation_config.json", "*.tiktoken", "LICENSE*",
)  # fmt: skip

_QUANTIZE_GROUP = 64


class FusedAnother(TspinError):
    """The fused model differs too much from the model with the adapter."""

    def __init__(self, measured: Agreement, max_kl: float, bits: int | None) -> None:
        enough = f"--max-kl {1.05 * measured.kl:.2g}"  # not below the measured value, even rounded
        what = f"the model fused and quantised to {bits} bits" if bits else "the fused model"
        super().__init__(
            f"{what} differs too much from the model with the adapter, and was not saved: mean KL "
            f"{measured.kl:.2g} nats (at most {max_kl:.2g} is allowed), the same greedy token at "
            f"{measured.greedy:.1%} of {measured.positions} held-out positions",
            hint=(
                f"quantise to 8 bits, or not at all; or allow it: `tspin-mlx fuse` with {enough}"
                if bits
                else "rounding probably lost the adapter's effect, else please report this; export the adapter itself "
                f"with `tspin-mlx export --format mlx`, or allow it: `tspin-mlx fuse` with {enough}"
            ),
        )


def fuse(
    source: Source,
    name: str | None = None,
    bits: int | None = None,
    max_kl: float | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Export:
    """Fuse a policy's adapter into a whole model, and check it against the model with the adapter.

    The weights are dequantised first: added to 4-bit weights, much of an adapter would be lost to rounding.

    Args:
        name: of the export.
        bits: quantise the result again.
        max_kl: largest mean KL divergence, in nats; None is :data:`MAX_KL`, but without ``bits`` at most half of the
            adapter's own effect (if that is below 0.002 nats: all of it, up to 0.001).
        on_stage: called with each next stage, in words.

    Raises:
        FusedAnother: the result differs too much; it was not saved.
        SetupError: the model cannot be loaded, or needs its own Python code.
    """
    _check_needs_no_code(source.base.folder)
    form = f"fused-{bits}bit" if bits else "fused"
    origin = origin_of(source, "fused", quantized_to=bits)

    def fill(folder: Path) -> dict[str, Any]:
        prompts = source.run.prompts()
        examples = held_out(prompts.validation)
        on_stage("loading the model with its adapter")
        model, expected, adapter_kl = _with_adapter(source, examples)
        on_stage(f"fusing{f' and quantising to {bits} bits' if bits else ''}")
        _write(source, _fused(model, _dtype_of(source.base.folder)), bits, folder)
        del model
        on_stage("comparing the fused model with the unfused one")
        measured = agreement(expected, distributions(_load(folder), examples))
        allowed = MAX_KL if max_kl is None else max_kl
        if max_kl is None and bits is None:  # rounding can lose a small adapter although it changes little
            allowed = min(MAX_KL, max(_LOST * adapter_kl, min(_ROUNDING, adapter_kl), _NOISE))
        if not measured.kl <= allowed:
            raise FusedAnother(measured, allowed, bits)
        return {"agreement": {**asdict(measured), "max_kl": allowed, "adapter_kl": adapter_kl}}

    return make_export(source.run.exports, f"{source.label}-{form}" if name is None else name, origin, fill)


def _check_needs_no_code(base: Path) -> None:
    if (code := read_json(base).get("model_file")) is not None:
        raise SetupError(
            f"{base}: the model needs its own Python code ({code}), without which a fused model would not load",
            hint="export the adapter instead: `tspin-mlx export --format mlx`",
        )


def _with_adapter(source: Source, examples: list[Any]) -> tuple[nn.Module, list[mx.array], float]:
    """Return the model with the adapter, its distributions, and their mean KL divergence to the base model's."""
    recipe = source.recipe
    folder = open_model(source.base.folder, source.run.about["model"]["name"])
    policy = load_policy(folder, recipe.model.dtype, recipe.lora, derive(recipe.run.seed, "lora"))
    without = distributions(policy.model, examples)
    set_adapter(policy, source.adapter)
    expected = distributions(policy.model, examples)
    return policy.model, expected, agreement(expected, without).kl


def _fused(model: nn.Module, dtype: mx.Dtype) -> nn.Module:
    """Fuse the adapter into dequantised weights, one layer at a time to save memory."""
    from mlx_lm.utils import dequantize_model

    for path, layer in model.named_modules():
        if hasattr(layer, "fuse"):
            fused = layer.fuse(dequantize=True)
            fused.set_dtype(dtype)
            mx.eval(fused.parameters())
            model.update_modules(tree_unflatten([(path, fused)]))
    return cast(dequantize_model(model), dtype)


def _write(source: Source, model: nn.Module, bits: int | None, folder: Path) -> None:
    from mlx_lm.utils import load_config, quantize_model, save_config, save_model

    config = {k: v for k, v in load_config(source.base.folder).items() if not k.startswith("quantization")}
    config |= rope_settings(config)
    if bits is not None:
        narrowest = min(value.shape[-1] & -value.shape[-1] for value in _matrices(model))
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            model, config = quantize_model(model, config, min(_QUANTIZE_GROUP, narrowest), bits)
    check_space(folder, sum(value.nbytes for _, value in tree_flatten(model.parameters())))
    save_model(folder, model)
    save_config(config, folder / "config.json")
    for pattern in _BESIDE:
        for file in source.base.folder.glob(pattern):
            if file.is_file() and file.suffix != ".py":
                shutil.copyfile(file, folder / file.name)


def _matrices(model: nn.Module) -> list[mx.array]:
    return [module.weight for _, module in model.named_modules() if hasattr(module, "to_quantized")]


def _load(folder: Path) -> nn.Module:
    """Load the fused model as it was written."""
    from mlx_lm.utils import dequantize_model, load_model

    try:
        model, _ = load_model(folder, lazy=True, trust_remote_code=False)
    except (ValueError, RuntimeError) as error:
        raise SetupError(f"the fused model cannot be loaded: {error}") from None
    if on_cpu():  # half precision and quantised matrices are slow there; this does not change the rounded weights
        model = cast(dequantize_model(model), mx.float32)
    model.eval()
    return model


def _dtype_of(base: Path) -> mx.Dtype:
    """Return the dtype in which the base model is stored, or to which its quantised weights are dequantised."""
    types: dict[bool, mx.Dtype] = {}
    for file in sorted(base.glob("model*.safetensors")):
        for name, value in mx.load(str(file)).items():
            if mx.issubdtype(value.dtype, mx.floating):
                types.setdefault(name.endswith(".scales") or value.ndim > 1, value.dtype)
    return types.get(True) or types[False]
