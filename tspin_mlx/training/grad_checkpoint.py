"""Gradient checkpointing: keep only each layer's input for the backward pass, and recompute its activations there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path

from ..base.seeds import derive
from ..method.triplets import Prompt, Response
from ..models.load import Policy
from ..scoring.logprobs import as_arrays
from ..scoring.prefix import PrefixCache

_ROUNDING = 0.05  # of a gradient's norm


class LayerSeeds:
    """A dropout seed for every call of a layer, so that recomputing it drops the same inputs."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Start a step with this seed; calls are counted from 0 again."""
        self._seed, self._calls = seed, count()

    def next(self) -> int:
        """Return the seed of the next call."""
        return derive(self._seed, "layer", next(self._calls))


@contextmanager
def grad_checkpointed(model: nn.Module, enabled: bool, seeds: LayerSeeds | None = None) -> Iterator[None]:
    """Apply gradient checkpointing to a model's layers within the block.

    The layers' ``__call__`` is patched on their class and restored: doing it per phase would nest the recomputation.

    Args:
        seeds: of the layers' dropout.
    """
    if not enabled:
        yield
        return
    seeds = seeds or LayerSeeds()
    kinds = {type(layer) for layer in model.layers}
    originals = {kind: kind.__call__ for kind in kinds}
    for kind, original in originals.items():
        kind.__call__ = _checkpointing(original, seeds)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original


def can_grad_checkpoint(policy: Policy) -> bool:
    """Return whether gradient checkpointing leaves a model's gradients unchanged, tried on two short examples.

    It does not if a layer passes something to another layer besides its output.
    """
    model, scorer = policy.model, policy.scorer
    answers = tuple(Response(tuple(range(start, start + 4)), "") for start in (2, 8))
    prompts = [Prompt("", tuple(range(start, start + 12)), "", answers[0], "") for start in (3, 5)]
    batch = as_arrays(scorer.collate([(prompt, answers) for prompt in prompts]))

    def gradients(grad_checkpoint: bool) -> dict[str, mx.array]:
        with grad_checkpointed(model, grad_checkpoint):
            _, grads = nn.value_and_grad(model, lambda: scorer(batch, "logps")[0].sum())()
            mx.eval(grads)
        return dict(tree_flatten(grads))

    model.train()  # some models use kernels that cannot be differentiated otherwise
    model.apply_to_modules(lambda _, module: module.eval() if isinstance(module, nn.Dropout) else None)
    try:
        expected, actual = gradients(False), gradients(True)
    finally:
        model.eval()
    error = sum((actual[name] - expected[name]).square().sum().item() for name in expected)
    return bool(error <= _ROUNDING**2 * sum(value.square().sum().item() for value in expected.values()))


def _checkpointing(original: Callable[..., Any], seeds: LayerSeeds) -> Callable[..., Any]:
    def call(layer: nn.Module, x: mx.array, *args: Any, **kwargs: Any) -> Any:
        cache = next((value for value in (*args, *kwargs.values()) if isinstance(value, PrefixCache)), None)
        prefix, seed = cache.prefix if cache else (), seeds.next()
        others = [list(args), kwargs]  # such as keys and values that layers share
        given = {name: leaf for name, leaf in tree_flatten(others) if _is_differentiable(leaf)}

        # mx.checkpoint differentiates only its arguments, and all outputs must be returned, each once.
        def inner(
            parameters: dict[str, Any], prefix: tuple[mx.array, ...], given: dict[str, mx.array], x: mx.array
        ) -> Any:
            layer.update(parameters)
            if cache:
                cache.prefix = prefix
            mx.random.seed(seed)
            positional, named = tree_map_with_path(lambda name, leaf: given.get(name, leaf), others)
            output = original(layer, x, *positional, **named)
            return output, tuple(part + 0 for part in cache.recorded) if cache else ()

        parameters = layer.trainable_parameters()
        output, recorded = mx.checkpoint(inner)(parameters, prefix, given, x)
        layer.update(parameters)  # a second call of the layer must not see the tracers of the first
        if cache:
            cache.prefix, cache.recorded = prefix, recorded
        return output

    return call


def _is_differentiable(value: Any) -> bool:
    return isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating)
