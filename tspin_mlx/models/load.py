"""Models with adapters: from a folder to a policy that can be trained, and back to files.

One of the few modules that touch mlx-lm.
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
_ROUNDING = 0.1  # of the norm of the logits: in bfloat16 two ways to compute the same are far apart

#: In float16 the gradients of a contrast with alpha 0.01 are 2.0 % off those of float32, and .5 % with this; losses
#: times 1,024 do no harm yet, times 16,384 they overflow (SmolLM2-135M, four triplets of the quickstart).
_LOSS_SCALE = 64.0


_ADAPTER_LEAVES = ("lora_a", "lora_b", "m")

#: What a GPU could compute while the operations of one layer are built and launched, forward and backward: .4 ms, in
#: which a Mac's does some 5 TFLOP/s and an NVIDIA card for servers ten times as many.
_FLOPS_PER_LAYER, _FLOPS_PER_LAYER_ON_CUDA = 2e9, 2e10


@dataclass
class Policy:
    """A model with an adapter: what answers prompts and what is trained.

    Attributes:
        model: mlx-lm model; only its adapter is trainable.
        tokenizer: mlx-lm's tokenizer wrapper.
        adapter_config: mlx-lm's ``adapter_config.json``.
        window: the longest sequence that the model was made for, in tokens, if it is known.
        mlx_lm_agrees: whether mlx-lm by itself finds all of the model's settings, so that the adapter fits there, too.
    """

    model: nn.Module
    tokenizer: Any
    adapter_config: dict[str, Any]
    window: int | None = None
    mlx_lm_agrees: bool = True

    @cached_property
    def loss_scale(self) -> float:
        """What a loss is multiplied by before it is differentiated, and gradients divided by, exactly as it is a power
        of two: in float16 small ones would vanish."""
        computes_in = self.model(mx.zeros((1, 1), mx.int32)).dtype  # nothing is evaluated for that
        return _LOSS_SCALE if computes_in == mx.float16 else 1.0

    @cached_property
    def scorer(self) -> Scorer:
        """What computes log-probabilities under this policy, whatever its adapter is at the time."""
        return Scorer(self.model, call_cost(self.model))

    def adapter(self) -> dict[str, mx.array]:
        """The trainable tensors, by name."""
        return dict(tree_flatten(self.model.trainable_parameters()))


def load_policy(folder: ModelFolder, dtype: str, lora: LoraSection, seed: int) -> Policy:
    """Load the model and give it a fresh adapter, under which it still answers exactly as before.

    Args:
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16`` (see :class:`tspin_mlx.recipe.schema.ModelSection`).
        seed: of the adapter's random half.

    Raises:
        ResourcesError: the weights alone are larger than the memory that can be used.
        SetupError: mlx-lm cannot load it or its tokenizer, it takes no adapter of this kind, or it computes otherwise
            when it generates than when it is trained.
    """
    from mlx_lm.utils import dequantize_model, load_model

    bound_memory()
    if on_cpu():
        keep_freed_memory()
    try:
        rope = rope_settings(read_json(folder.path))
        model, _ = load_model(folder.path, lazy=True, model_config=rope, trust_remote_code=folder.trusted)
    except (ValueError, RuntimeError, FileNotFoundError, TypeError, KeyError) as error:
        raise SetupError(f"{folder.path}: mlx-lm cannot load it: {first_line(error)}") from None
    wanted = "float32" if dtype == "auto" and on_cpu() else dtype
    if wanted != "auto":
        model = cast(dequantize_model(model), getattr(mx, wanted))
    _check_that_it_fits(folder.path, model)
    if mx.metal.is_available():
        spare_metal(model)
    try:
        description = _attach(model, lora, seed)
    except ValueError as error:
        hint = "lora.kind=lora takes more kinds of layers" if lora.kind == "dora" else "lora.keys names other layers"
        raise SetupError(f"{folder.path}: no adapter: {first_line(error)}", hint=hint) from None
    agrees = not rope or _finds_rope_itself(model, read_json(folder.path))
    base = {"name": folder.name, "fingerprint": folder.fingerprint} | ({UNKNOWN_ROPE: not agrees} if rope else {})
    adapter_config = {**description, "base": base}
    model.eval()
    mx.eval(model.parameters())
    if not _answers_as_it_is_scored(model):
        raise SetupError(
            f"{folder.path}: as mlx-lm has it, this model computes otherwise when it generates than when it is trained",
            hint="its answers would not be those of the model that is trained: take another one",
        )
    return Policy(model, load_tokenizer(folder), adapter_config, context_length(folder), agrees)


def _check_that_it_fits(folder: Path, model: nn.Module) -> None:
    """Refuse weights that are larger than the memory that can be used, while none of them has been read."""
    weights, budget = sum(value.nbytes for _, value in tree_flatten(model.parameters())), memory_budget()
    if weights > budget:
        quantized = "" if on_cpu() else ", or one in 4 bits (many are at huggingface.co/mlx-community), with dtype=auto"
        raise ResourcesError(
            f"{folder}: the model's weights take {weights / 1e9:.1f} GB, and {budget / 1e9:.1f} GB can be used here",
            hint=f"take a smaller model{quantized}",
        )


def _finds_rope_itself(model: nn.Module, config: dict[str, Any]) -> bool:
    """Whether mlx-lm reads the same rotary settings of the configuration as it is on disk."""
    inner = getattr(model, "language_model", None)
    part, settings = (model, config) if inner is None else (inner, {**config, **config.get("text_config", {})})
    try:
        alone = type(part.args).from_dict(settings)
    except (AttributeError, TypeError, ValueError, KeyError):  # what it needs is missing there
        return False
    return _rope_of(alone) == _rope_of(part.args)


def _rope_of(args: Any) -> list[Any]:
    read = [getattr(args, name, None) for name in ("rope_theta", "partial_rotary_factor", "rope_local_base_freq")]
    scaling = getattr(args, "rope_scaling", None) or {}
    return [*read, {key: value for key, value in scaling.items() if key != "type"}]


def cast(model: nn.Module, dtype: mx.Dtype) -> nn.Module:
    """The model with its floating weights in one type, but for those that it says it needs as they are."""
    in_type = getattr(model, "cast_predicate", lambda name: True)

    def converted(name: str, value: mx.array) -> mx.array:
        return value.astype(dtype) if in_type(name) and mx.issubdtype(value.dtype, mx.floating) else value

    model.update(tree_map_with_path(converted, model.parameters()))
    return model


def _answers_as_it_is_scored(model: nn.Module) -> bool:
    """Whether a model gives the same with the cache of a generation as without (Gemma 3n does not)."""
    from mlx_lm.models.cache import make_prompt_cache

    tokens = mx.arange(2, 2 + _PROBE)[None]
    with_cache, without = model(tokens, cache=make_prompt_cache(model)), model(tokens)
    return distance(with_cache, without) <= _ROUNDING


def call_cost(model: nn.Module) -> int:
    """What a call of the model costs beside its tokens, in tokens: a GPU waits while operations are launched.

    That takes the same time for each layer; what could be computed meanwhile is fewer tokens the larger the model is.
    """
    from mlx_lm.utils import get_total_parameters

    if on_cpu():
        return CALL_COST
    per_layer = _FLOPS_PER_LAYER_ON_CUDA if mx.cuda.is_available() else _FLOPS_PER_LAYER
    per_token = 4 * int(get_total_parameters(model))  # forward, and backward without the weights' gradients
    return max(CALL_COST, round(len(model.layers) * per_layer / per_token))


def _attach(model: nn.Module, lora: LoraSection, seed: int) -> dict[str, Any]:
    """Freeze the model, add the adapter and return mlx-lm's description of it."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    parameters: dict[str, Any] = {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout}
    if lora.keys is not None:
        parameters["keys"] = list(lora.keys)
    model.freeze()
    mx.random.seed(seed)
    # mlx-lm adds the names it finds to "keys" in place; the saved description keeps only what was asked for.
    linear_to_lora_layers(model, lora.layers, dict(parameters), use_dora=lora.kind == "dora")
    trainable = tree_flatten(model.trainable_parameters())
    if not trainable:
        raise SetupError(f"lora.keys {list(lora.keys or ())} matches no layer of this model")
    assert all(name.rsplit(".", 1)[-1] in _ADAPTER_LEAVES for name, _ in trainable)
    model.load_weights([(name, value.astype(mx.float32)) for name, value in trainable], strict=False)
    return {"fine_tune_type": lora.kind, "num_layers": lora.layers, "lora_parameters": parameters}
