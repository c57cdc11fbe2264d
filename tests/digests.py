"""What adapters on disk have in common: their tensors, whatever the file looks like."""

import hashlib
from pathlib import Path

import mlx.core as mx


def adapter_digest(folder: Path) -> str:
    """sha256 over names, shapes and values of a saved adapter, whatever the file's layout."""
    tensors = mx.load(str(folder / "adapters.safetensors"))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].astype(mx.float32)
        digest.update(f"{name}{value.shape}".encode())
        digest.update(memoryview(value).tobytes())
    return digest.hexdigest()
