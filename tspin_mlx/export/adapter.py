"""Export a LoRA adapter as a folder for mlx-lm, for PEFT, or for both at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..base import filesystem
from ..models.adapters import load_tensors, save_tensors
from .folder import Export, make_export
from .peft import to_peft
from .source import Source

AdapterFormat = Literal["mlx", "peft", "both"]


def export_adapter(source: Source, form: AdapterFormat, name: str | None = None) -> Export:
    """Export a policy's adapter.

    Args:
        form: ``both`` is one folder that mlx-lm and PEFT load: two weight files, one configuration.
        name: of the export; by default the policy's with the format.

    Raises:
        UsageError: PEFT does not support this adapter, or the name is taken.
    """
    tensors = load_tensors(source.adapter / "adapters.safetensors")
    config = source.adapter_config()
    converted = to_peft(tensors, config, source.base.folder, source.base.id) if form != "mlx" else None

    def fill(folder: Path) -> None:
        merged: dict[str, Any] = {}
        if converted is not None:
            save_tensors(folder / "adapter_model.safetensors", converted[0], made_for="pt")
            merged |= converted[1]
        if form != "peft":
            save_tensors(folder / "adapters.safetensors", tensors)
            merged |= config
        (folder / "adapter_config.json").write_text(filesystem.to_json(merged), encoding="utf-8")

    label = f"{source.label}-{form}" if name is None else name
    return make_export(source.run.exports, label, origin_of(source, form), fill)


def origin_of(source: Source, form: str, **more: Any) -> dict[str, Any]:
    """Return the metadata of what an export is made from."""
    return {
        "format": form,
        "run": source.run.name,
        "policy": source.policy,
        "adapter_sha256": source.run.store.digest(f"{source.policy}/adapter/adapters.safetensors"),
        "base_model": source.base.id,
        "trained_on": source.base.trained_on,
        "base_fingerprint": source.run.about["model"]["fingerprint"],
        "versions": source.run.about["versions"],
        **more,
    }
