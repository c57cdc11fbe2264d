"""Adapters on disk and in the model: save, load, replace, and fuse for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..base import storage
from ..base.errors import DamagedError, DivergedError, SetupError
from ..base.machine import device_bytes
from ..base.text import first_line
from .folder import read_json
from .load import Policy

_ROOM = 0.5  # of all memory, for weights that are there twice; the rest is for the caches of answers


def save_adapter(policy: Policy, folder: Path) -> None:
    """Fill a folder with the adapter in mlx-lm's format, which ``mlx_lm generate --adapter-path`` loads.

    Raises:
        DivergedError: a tensor is not finite; nothing is written.
    """
    tensors = policy.adapter()
    broken = [name for name, value in tensors.items() if not mx.isfinite(value).all().item()]
    if broken:
        raise DivergedError(
            f"the adapter has non-finite values in {broken[0]}; it was not saved",
            hint="try a smaller training.learning_rate, or model.dtype=float32",
        )
    save_tensors(folder / "adapters.safetensors", tensors)
    config = storage.to_json(policy.adapter_config)
    storage.fill_file(folder / "adapter_config.json", lambda path: path.write_text(config, encoding="utf-8"))


def save_tensors(path: Path, tensors: dict[str, mx.array], made_for: str = "mlx") -> None:
    """Write a safetensors file whose bytes depend on the tensors alone, not on their order.

    Args:
        made_for: the ``format`` in the file's metadata; transformers and PEFT want ``pt``.
    """
    ordered = {name: tensors[name] for name in sorted(tensors)}
    storage.fill_file(path, lambda path: mx.save_safetensors(str(path), ordered, metadata={"format": made_for}))


def load_tensors(path: Path) -> dict[str, mx.array]:
    """The tensors of a safetensors file, in memory.

    Raises:
        DamagedError: it cannot be read.
    """
    try:
        tensors: dict[str, mx.array] = mx.load(str(path), format="safetensors")
        mx.eval(tensors)
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        raise DamagedError(f"{path} cannot be read ({first_line(error)})") from None
    return tensors


def set_adapter(policy: Policy, source: Path) -> None:
    """Replace the policy's adapter by the one saved in ``source``.

    Raises:
        DamagedError: the adapter cannot be read.
        SetupError: it is of another base model, or its tensors are not exactly those of the policy's adapter and
            finite.
    """
    expected = policy.adapter()
    tensors = load_tensors(source / "adapters.safetensors")
    _check_base(policy, source)
    wrong = differing(expected, tensors)
    wrong += [name for name, value in tensors.items() if not mx.isfinite(value).all().item()]
    if wrong:
        raise SetupError(
            f"{source}: not an adapter for this policy: {len(wrong)} tensors are missing, extra, of another shape "
            f"or not finite: {', '.join(wrong[:4])}{' …' if len(wrong) > 4 else ''}"
        )
    policy.model.load_weights(list(tensors.items()), strict=False)


def differing(expected: dict[str, mx.array], tensors: dict[str, mx.array]) -> list[str]:
    """Names of tensors that are missing, extra, or of another shape."""
    common = expected.keys() & tensors.keys()
    other = {name for name in common if tensors[name].shape != expected[name].shape}
    return sorted((expected.keys() ^ tensors.keys()) | other)


def _check_base(policy: Policy, source: Path) -> None:
    base = read_json(source, "adapter_config.json").get("base")
    if not isinstance(base, dict) or base.get("fingerprint") != policy.adapter_config["base"]["fingerprint"]:
        name = base.get("name") if isinstance(base, dict) else "unknown"
        raise SetupError(f"{source}: made for another base model ({name}, not {policy.adapter_config['base']['name']})")


@contextmanager
def fused(policy: Policy) -> Iterator[None]:
    """Within the block, in which nothing is trained, the adapter is part of the weights it adapts, where those are
    dense float32 and there is room for them twice.

    Each token then costs one product per linear instead of three. In narrower types the sum would be rounded, and the
    policy that answers would not be quite the one that is trained; and quantised weights would have to be unpacked.
    """
    from mlx_lm.tuner.dora import DoRALinear
    from mlx_lm.tuner.lora import LoRALinear

    adapted = [
        (name, layer)
        for name, layer in policy.model.named_modules()
        if isinstance(layer, LoRALinear | DoRALinear) and layer.linear.weight.dtype == mx.float32
    ]
    size = sum(layer.linear.weight.nbytes for _, layer in adapted)
    if size + _nbytes(policy.model.parameters()) > _ROOM * device_bytes():
        adapted = []
    folds = [(name, layer.fuse().freeze()) for name, layer in adapted]
    mx.eval([layer.parameters() for _, layer in folds])
    policy.model.update_modules(tree_unflatten(folds))
    try:
        yield
    finally:
        policy.model.update_modules(tree_unflatten(adapted))


def _nbytes(parameters: Any) -> int:
    return sum(value.nbytes for _, value in tree_flatten(parameters))
