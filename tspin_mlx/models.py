"""Models and adapters: from what a recipe names to a policy that can be trained, and back to files.

One of the few modules that touch mlx-lm.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from . import builtin
from .errors import HubError, SetupError, TspinError
from .gguf import convert_gguf
from .machine import keep_freed_memory, on_cpu
from .recipe import LoraSection, ModelSection
from .runs import store

#: What is fetched of a Hub repository: weights, configuration, tokenizer; never Python files.
_HUB_FILES = ("*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jinja")

_ADAPTER_LEAVES = ("lora_a", "lora_b", "m")


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Attributes:
        path: folder in mlx-lm's format.
        name: what the recipe called it.
        fingerprint: sha256 over names and sizes of the weight files and over the configuration.
    """

    path: Path
    name: str
    fingerprint: str


@dataclass
class Policy:
    """A model with an adapter: what answers prompts and what is trained.

    Attributes:
        model: mlx-lm model; only its adapter is trainable.
        tokenizer: mlx-lm's tokenizer wrapper.
        adapter_config: mlx-lm's ``adapter_config.json``.
    """

    model: nn.Module
    tokenizer: Any
    adapter_config: dict[str, Any]

    def adapter(self) -> dict[str, mx.array]:
        """The trainable tensors, by name."""
        return dict(tree_flatten(self.model.trainable_parameters()))


def resolve_model(section: ModelSection) -> ModelFolder:
    """Find, download or convert the model that a recipe names.

    Raises:
        SetupError: no such folder or file, or not a model mlx-lm can load.
        HubError: the Hub refused or could not be reached.
    """
    path = _locate(section)
    if not (path / "config.json").is_file() or not list(path.glob("model*.safetensors")):
        raise SetupError(
            f"{path}: not a model folder (config.json and model*.safetensors are needed)",
            hint="give a Hub id, a folder in mlx-lm's format, a GGUF file, or smollm2-135m",
        )
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in sorted(path.glob("model*.safetensors")):
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
    return ModelFolder(path=path, name=section.path, fingerprint=digest.hexdigest())


def load_tokenizer(folder: ModelFolder) -> Any:
    """mlx-lm's tokenizer wrapper of the model; a second or so, no weights."""
    from mlx_lm.utils import load_config, load_tokenizer

    eos = load_config(folder.path).get("eos_token_id")
    return load_tokenizer(folder.path, {"trust_remote_code": False}, eos_token_ids=eos)


def vocabulary_size(folder: ModelFolder) -> int:
    """Token ids of the model are below this."""
    config = store.read_json(folder.path / "config.json")
    return config.get("vocab_size") or config["text_config"]["vocab_size"]


def context_length(folder: ModelFolder) -> int | None:
    """Longest sequence the model was made for, in tokens, if its configuration says."""
    config = store.read_json(folder.path / "config.json")
    return config.get("max_position_embeddings")


def load_policy(folder: ModelFolder, dtype: str, lora: LoraSection, seed: int) -> Policy:
    """Load the model and give it a fresh adapter, under which it still answers exactly as before.

    Args:
        dtype: ``auto``, ``float32`` or ``bfloat16`` (see :class:`tspin_mlx.recipe.ModelSection`).
        seed: of the adapter's random half.
    """
    from mlx_lm.utils import dequantize_model, load_model

    if on_cpu():
        keep_freed_memory()
    try:
        model, _ = load_model(folder.path, lazy=True, trust_remote_code=False)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        raise SetupError(f"{folder.path}: {error}") from None
    wanted = "float32" if dtype == "auto" and on_cpu() else dtype
    if wanted != "auto":
        model = dequantize_model(model)
        model.set_dtype(getattr(mx, wanted))
    adapter_config = _attach(model, lora, seed)
    model.eval()
    mx.eval(model.parameters())
    tokenizer = load_tokenizer(folder)
    return Policy(model=model, tokenizer=tokenizer, adapter_config=adapter_config)


def save_adapter(policy: Policy, target: Path) -> None:
    """Write the adapter in mlx-lm's format; ``mlx_lm generate --adapter-path target`` loads it.

    Raises:
        TspinError: a tensor is not finite; nothing is written.
    """
    tensors = policy.adapter()
    broken = [name for name, value in tensors.items() if not mx.isfinite(value).all().item()]
    if broken:
        raise TspinError(f"the adapter has non-finite values in {broken[0]}; it was not saved")
    with store.new_folder(target) as folder:
        ordered = {name: tensors[name] for name in sorted(tensors)}  # the order decides the bytes
        mx.save_safetensors(str(folder / "adapters.safetensors"), ordered, metadata={"format": "mlx"})
        store.write_json(folder / "adapter_config.json", policy.adapter_config)


def set_adapter(policy: Policy, source: Path) -> None:
    """Replace the policy's adapter by the one saved in ``source``.

    Raises:
        SetupError: the tensors are not exactly those of the policy's adapter, or not finite.
    """
    expected = policy.adapter()
    try:
        tensors = mx.load(str(source / "adapters.safetensors"))
        mx.eval(tensors)
    except (RuntimeError, FileNotFoundError) as error:
        raise SetupError(f"{source}: the adapter cannot be read ({error})") from None
    wrong = sorted(expected.keys() ^ tensors.keys())
    wrong += [name for name in expected.keys() & tensors.keys() if tensors[name].shape != expected[name].shape]
    wrong += [name for name, value in tensors.items() if not mx.isfinite(value).all().item()]
    if wrong:
        raise SetupError(
            f"{source}: not the adapter of this run: {len(wrong)} tensors are missing, extra, of another shape "
            f"or not finite, for example {wrong[0]}"
        )
    policy.model.load_weights(list(tensors.items()), strict=False)


def adapter_digest(folder: Path) -> str:
    """sha256 over names, shapes and values of a saved adapter, whatever the file's layout."""
    tensors = mx.load(str(folder / "adapters.safetensors"))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].astype(mx.float32)
        digest.update(f"{name}{value.shape}".encode())
        digest.update(memoryview(value).tobytes())
    return digest.hexdigest()


def _locate(section: ModelSection) -> Path:
    if section.path == builtin.ALIAS:
        return builtin.builtin_model()
    path = Path(section.path).expanduser()
    if path.suffix == ".gguf":
        return _converted(path)
    if path.is_dir():
        return path
    if section.path.count("/") == 1 and not section.path.startswith((".", "/", "~")):
        return _download(section)
    raise SetupError(
        f"model {section.path!r}: no such folder, and not a Hub id (org/name)",
        hint=f"the built-in model is {builtin.ALIAS}",
    )


def _converted(path: Path) -> Path:
    if not path.is_file():
        raise SetupError(f"model {str(path)!r}: no such file")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = builtin.cache_folder() / "models" / f"{path.stem}-{digest[:12]}"
    if not target.exists():
        convert_gguf(path, target)
    return target


def _download(section: ModelSection) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(section.path, revision=section.revision, allow_patterns=list(_HUB_FILES)))
    except GatedRepoError:
        raise HubError(
            f"model {section.path!r} is gated",
            hint=f"accept its terms on https://huggingface.co/{section.path}, then `hf auth login`",
        ) from None
    except RepositoryNotFoundError:
        raise HubError(
            f"model {section.path!r} was not found on the Hub",
            hint="check the spelling; for a private model, `hf auth login` first",
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise HubError(
            f"model {section.path!r} could not be fetched: {str(error).splitlines()[0]}",
            hint="check the network; a model that is already in the cache needs none",
        ) from None


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
