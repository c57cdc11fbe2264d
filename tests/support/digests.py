"""Digests of adapters on disk: of their tensors, however the file is laid out."""

import hashlib
from pathlib import Path

import mlx.core as mx

from tspin_mlx.runs.run import Run


def adapter_digest(folder: Path) -> str:
    """sha256 over the names, shapes and values of a saved adapter's tensors."""
    tensors = mx.load(str(folder / "adapters.safetensors"))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].astype(mx.float32)
        digest.update(f"{name}{value.shape}".encode())
        digest.update(memoryview(value).tobytes())
    return digest.hexdigest()


def run_digests(run: Run) -> dict[str, str]:
    """The digest of every adapter of a run, by the folder's path within it."""
    folders = sorted(run.path.glob("**/adapter"))
    return {folder.relative_to(run.path).as_posix(): adapter_digest(folder) for folder in folders}
