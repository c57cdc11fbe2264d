"""Load a model with mlx-lm, convert its dtype, attach a LoRA or DoRA adapter, and check that it can be trained.

One of the few modules that import mlx-lm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path

from ..base.errors import ResourcesError, SetupError
from ..base.machine import bound_memory, keep_freed_memory, memory_budget, on_cpu
from ..base.text import first_line
from ..recipe.schema import LoraSection
from ..scoring.collate import CALL_COST
from ..scoring.logprobs import Scorer, distance
from .folder import ModelFolder, context_length, load_tokenizer, read_json
from .metal import spare_metal
from .rope import UNKNOWN_ROPE, rope_settings

_PROBE = 12  # tokens
_ROUNDING = 0.1  # of the norm of the logits: in bfloat16, two ways to compute the same differ a lot

#: Loss scaling in float16: gradients with alpha 0.01 differ by 2.0 % from those in float32, with this factor by 0.5 %;
#: a factor of 1,024 still does no harm, one of 16,384 overflows (SmolLM2-135M, four triplets of the quickstart).
_LOSS_SCALE = 64.0

_ADAPTER_LEAVES = ("lora_a", "lora_b", "m")

#: FLOPs a GPU could do while the operations of one layer are built and launched, forward and backward: 0.4 ms at about
#: 5 TFLOP/s on a Mac, and ten times as many on an NVIDIA server card.
_FLOPS_PER_LAYER, _FLOPS_PER_LAYER_ON_CUDA = 2e9, 2e10


@dataclass
class Policy:
    """A model with an adapter, which answers prompts and is trained.

    Attributes:
        model: mlx-lm model; only its adapter is trainable.
        tokenizer: mlx-lm's tokenizer wrapper.
        adapter_config: mlx-lm's ``adapter_config.json``.
        window: the model's context length in tokens, if it is known.
        mlx_lm_agrees: whether mlx-lm reads all of the model's settings by itself, so that the adapter works there too.
    """

    model: nn.Module
    tokenizer: Any
    adapter_config: dict[str, Any]
    window: int | None = None
    mlx_lm_agrees: bool = True

    @cached_property
    def loss_scale(self) -> float:
        """Loss scale, a power of two: gradients are divided by it, so that small ones do not vanish in float16."""
        computes_in = self.model(mx.zeros((1, 1), mx.int32)).dtype  # lazy: nothing is evaluated
        return _LOSS_SCALE if computes_in == mx.float16 else 1.0

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer of this policy, for whichever adapter is loaded."""
        return Scorer(self.model, call_cost(self.model))

    def adapter(self) -> dict[str, mx.array]:
        """Return the trainable tensors, by name."""
        return dict(tree_flatten(self.model.trainable_parameters()))


def load_policy(folder: ModelFolder, dtype: str, lora: LoraSection, seed: int) -> Policy:
    """Load the model with a new adapter, which does not change its outputs yet.

    Args:
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16`` (see :class:`tspin_mlx.recipe.schema.ModelSection`).
        seed: of the random matrices of the adapter.

    Raises:
        ResourcesError: the weights alone exceed the memory budget.
        SetupError: mlx-lm cannot load the model or its tokenizer, the adapter does not fit it, or it computes
            something else with a KV cache than without.
    """
    from mlx_lm.utils import dequantize_model, load_model

    bound_memory()
    if on_cpu():
        keep_freed_memory()
    try:
        rope = rope_settings(read_json(folder.path))
        model, _ = load_model(folder.path, lazy=True, model_config=rope, trust_remote_code=folder.trusted)
    except (ValueError, RuntimeError, FileNotFoundError, TypeError, KeyError) as error:
        raise SetupError(f"{folder.path}: mlx-lm cannot load this model: {first_line(error)}") from None
    wanted = "float32" if dtype == "auto" and on_cpu() else dtype
    if wanted != "auto":
        model = cast(dequantize_model(model), getattr(mx, wanted))
    _check_that_it_fits(folder.path, model)
    if mx.metal.is_available():
        spare_metal(model)
    try:
        description = _attach(model, lora, seed)
    except ValueError as error:
        hint = "lora.kind=lora works with more layer types" if lora.kind == "dora" else "choose layers with lora.keys"
        raise SetupError(f"{folder.path}: cannot add an adapter: {first_line(error)}", hint=hint) from None
    agrees = not rope or _finds_rope_itself(model, read_json(folder.path))
    base = {"name": folder.name, "fingerprint": folder.fingerprint} | ({UNKNOWN_ROPE: not agrees} if rope else {})
    adapter_config = {**description, "base": base}
    model.eval()
    mx.eval(model.parameters())
    if not _answers_as_it_is_scored(model):
        raise SetupError(
            f"{folder.path}: in mlx-lm, this model gives other outputs in generation than in training",
            hint="its answers would not be those of the trained model: use another model",
        )
    return Policy(model, load_tokenizer(folder), adapter_config, context_length(folder), agrees)


def _check_that_it_fits(folder: Path, model: nn.Module) -> None:
    """Refuse weights that are larger than the memory budget, before any of them is read."""
    weights, budget = sum(value.nbytes for _, value in tree_flatten(model.parameters())), memory_budget()
    if weights > budget:
        quantized = "" if on_cpu() else ", or a 4-bit one (many are at huggingface.co/mlx-community) with dtype=auto"
        raise ResourcesError(
            f"{folder}: the model's weights need {weights / 1e9:.1f} GB, but {budget / 1e9:.1f} GB are available",
            hint=f"use a smaller model{quantized}",
        )


def _finds_rope_itself(model: nn.Module, config: dict[str, Any]) -> bool:
    """Return whether mlx-lm by itself reads the same RoPE settings from the configuration on disk."""
    inner = getattr(model, "language_model", None)
    part, settings = (model, config) if inner is None else (inner, {**config, **config.get("text_config", {})})
    try:
        alone = type(part.args).from_dict(settings)
    except (AttributeError, TypeError, ValueError, KeyError):  # the configuration lacks what it needs
        return False
    return _rope_of(alone) == _rope_of(part.args)


def _rope_of(args: Any) -> list[Any]:
    read = [getattr(args, name, None) for name in ("rope_theta", "partial_rotary_factor", "rope_local_base_freq")]
    scaling = getattr(args, "rope_scaling", None) or {}
    return [*read, {key: value for key, value in scaling.items() if key != "type"}]


def cast(model: nn.Module, dtype: mx.Dtype) -> nn.Module:
    """Convert a model's floating-point weights to one dtype, except those that it wants unchanged."""
    in_type = getattr(model, "cast_predicate", lambda name: True)

    def converted(name: str, value: mx.array) -> mx.array:
        return value.astype(dtype) if in_type(name) and mx.issubdtype(value.dtype, mx.floating) else value

    model.update(tree_map_with_path(converted, model.parameters()))
    return model


def _answers_as_it_is_scored(model: nn.Module) -> bool:
    """Return whether a model's logits are the same with a KV cache as without (Gemma 3n's are not)."""
    from mlx_lm.models.cache import make_prompt_cache

    tokens = mx.arange(2, 2 + _PROBE)[None]
    with_cache, without = model(tokens, cache=make_prompt_cache(model)), model(tokens)
    return distance(with_cache, without) <= _ROUNDING


def call_cost(model: nn.Module) -> int:
    """Estimate the fixed cost of a call of the model, in tokens: a GPU waits while operations are launched.

    Launching takes the same time for every layer; the larger the model, the fewer tokens it could compute meanwhile.
    """
    from mlx_lm.utils import get_total_parameters

    if on_cpu():
        return CALL_COST
    per_layer = _FLOPS_PER_LAYER_ON_CUDA if mx.cuda.is_available() else _FLOPS_PER_LAYER
    per_token = 4 * int(get_total_parameters(model))  # forward, and backward without the weights' gradients
    return max(CALL_COST, round(len(model.layers) * per_layer / per_token))


def _attach(model: nn.Module, lora: LoraSection, seed: int) -> dict[str, Any]:
    """Freeze the model, add the adapter and return mlx-lm's configuration of it."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    parameters: dict[str, Any] = {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout}
    if lora.keys is not None:
        parameters["keys"] = list(lora.keys)
    model.freeze()
    mx.random.seed(seed)
    # mlx-lm adds names to "keys" in place; the saved configuration has only those that were asked for.
    linear_to_lora_layers(model, lora.layers, dict(parameters), use_dora=lora.kind == "dora")
    trainable = tree_flatten(model.trainable_parameters())
    if not trainable:
        raise SetupError(f"lora.keys {list(lora.keys or ())} matches no layer of this model")
    assert all(name.rsplit(".", 1)[-1] in _ADAPTER_LEAVES for name, _ in trainable)
    model.load_weights([(name, value.astype(mx.float32)) for name, value in trainable], strict=False)
    return {"fine_tune_type": lora.kind, "num_layers": lora.layers, "lora_parameters": parameters}
