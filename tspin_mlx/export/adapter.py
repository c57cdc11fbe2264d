"""The adapter as a folder for mlx-lm, for PEFT, or for both at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..base import storage
from ..models.adapters import load_tensors, save_tensors
from .folder import Export, keep
from .peft import to_peft
from .source import Source

AdapterFormat = Literal["mlx", "peft", "both"]


def export_adapter(source: Source, form: AdapterFormat, name: str | None = None) -> Export:
    """Export a policy's adapter.

    Args:
        form: ``both`` is one folder that mlx-lm and PEFT load: two weight files, one description.
        name: of the export; by default the policy's with the format.

    Raises:
        UsageError: PEFT has no counterpart of this adapter, or the name is taken.
    """
    tensors = load_tensors(source.adapter / "adapters.safetensors")
    config = source.adapter_config()
    theirs = to_peft(tensors, config, source.base.folder, source.base.id) if form != "mlx" else None

    def fill(folder: Path) -> None:
        described: dict[str, Any] = {}
        if theirs is not None:
            save_tensors(folder / "adapter_model.safetensors", theirs[0], made_for="pt")
            described |= theirs[1]
        if form != "peft":
            save_tensors(folder / "adapters.safetensors", tensors)
            described |= config
        (folder / "adapter_config.json").write_text(storage.to_json(described), encoding="utf-8")

    return keep(source.run.exports, f"{source.label}-{form}" if name is None else name, origin_of(source, form), fill)


def origin_of(source: Source, form: str, **more: Any) -> dict[str, Any]:
    """What an export is made from, for its note."""
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
