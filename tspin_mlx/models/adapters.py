"""LoRA adapters as safetensors: save, load, switch in a loaded model, and fuse temporarily for generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..base import filesystem
from ..base.errors import DamagedError, DivergedError, SetupError
from ..base.machine import device_bytes
from ..base.text import first_line
from .folder import read_json
from .load import Policy

_USABLE = 0.5  # share of the device's memory for fused and original weights; the rest is for KV caches


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write the adapter into a folder in mlx-lm's format, for ``mlx_lm generate --adapter-path``.

    Raises:
        DivergedError: a tensor is not finite; nothing is written.
    """
    tensors = policy.adapter()
    broken = [name for name, value in tensors.items() if not mx.isfinite(value).all().item()]
    if broken:
        raise DivergedError(
            f"the adapter was not saved: {broken[0]} has non-finite values",
            hint="try a smaller training.learning_rate, or model.dtype=float32",
        )
    save_tensors(folder / "adapters.safetensors", tensors)
    config = filesystem.to_json(policy.adapter_config)
    filesystem.fill_file(folder / "adapter_config.json", lambda path: path.write_text(config, encoding="utf-8"))


def save_tensors(path: Path, tensors: dict[str, mx.array], made_for: str = "mlx") -> None:
    """Write a safetensors file whose bytes depend on the tensors alone, not on their order.

    Args:
        made_for: the ``format`` in the file's metadata; transformers and PEFT expect ``pt``.
    """
    ordered = {name: tensors[name] for name in sorted(tensors)}
    filesystem.fill_file(path, lambda path: mx.save_safetensors(str(path), ordered, metadata={"format": made_for}))


def load_tensors(path: Path) -> dict[str, mx.array]:
    """Load a safetensors file into memory.

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
    """Load the adapter saved in ``source`` into the policy.

    Raises:
        DamagedError: the adapter cannot be read.
        SetupError: it belongs to another base model, its tensors do not match the policy's adapter, or are not finite.
    """
    expected = policy.adapter()
    tensors = load_tensors(source / "adapters.safetensors")
    _check_base(policy, source)
    wrong = differing(expected, tensors)
    wrong += [name for name, value in tensors.items() if not mx.isfinite(value).all().item()]
    if wrong:
        raise SetupError(
            f"{source}: this adapter does not fit the policy: {len(wrong)} tensors are missing, extra, of another "
            f"shape or not finite: {', '.join(wrong[:4])}{' …' if len(wrong) > 4 else ''}"
        )
    policy.model.load_weights(list(tensors.items()), strict=False)


def differing(expected: dict[str, mx.array], tensors: dict[str, mx.array]) -> list[str]:
    """List the names of tensors that are missing, extra, or of another shape."""
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
    """Merge the adapter into dense float32 weights within the block, if memory allows; nothing may be trained there.

    Each token then costs one product per linear layer instead of three. In narrower types the sum would be rounded, so
    the policy that answers would differ slightly from the one that is trained; quantised weights would need unpacking.
    """
    from mlx_lm.tuner.dora import DoRALinear
    from mlx_lm.tuner.lora import LoRALinear

    adapted = [
        (name, layer)
        for name, layer in policy.model.named_modules()
        if isinstance(layer, LoRALinear | DoRALinear) and layer.linear.weight.dtype == mx.float32
    ]
    size = sum(layer.linear.weight.nbytes for _, layer in adapted)
    if size + _nbytes(policy.model.parameters()) > _USABLE * device_bytes():
        adapted = []
    merged = [(name, layer.fuse().freeze()) for name, layer in adapted]
    mx.eval([layer.parameters() for _, layer in merged])
    policy.model.update_modules(tree_unflatten(merged))
    try:
        yield
    finally:
        policy.model.update_modules(tree_unflatten(adapted))


def _nbytes(parameters: Any) -> int:
    return sum(value.nbytes for _, value in tree_flatten(parameters))
