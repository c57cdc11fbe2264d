"""Locate a model (Hub id, local folder, GGUF, built-in) and read its config, tokenizer and fingerprint. No weights.

One of the few modules that import mlx-lm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import SetupError
from ..base.filesystem import sha256_of
from ..base.hub import hub_errors
from ..base.paths import user_path
from ..base.text import first_line
from ..recipe.schema import ModelSection
from . import builtin
from .from_gguf import convert_gguf
from .rope import rope_settings

#: Files downloaded from a Hub repository: weights, configuration, tokenizer, and the card (which names the original
#: model); Python files only if they are trusted.
_HUB_FILES = ("*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jinja", "README.md")

#: Files besides the weights that decide a model's outputs.
_TEXTS = ("config.json", "tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json", "vocab.*",
          "merges.txt", "*.tiktoken")  # fmt: skip

#: Evenly spaced stretches of each weight file that are digested: no change of a 256th of the file goes unnoticed.
_STRETCHES, _STRETCH_BYTES = 256, 1 << 14


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Attributes:
        path: folder in mlx-lm's format.
        name: as in the recipe.
        fingerprint: sha256 over configuration, tokenizer and samples of the weights: it differs for another fine-tune
            of the same model.
        trusted: whether the model's own Python code may run.
    """

    path: Path
    name: str
    fingerprint: str
    trusted: bool = False


def resolve_model(
    section: ModelSection, *, trusted: bool = False, on_stage: Callable[[str], None] = lambda stage: None
) -> ModelFolder:
    """Find, download or convert the model that a recipe names.

    Args:
        trusted: download and run the model's own Python code.
        on_stage: called with each next stage that takes a while, in words.

    Raises:
        SetupError: no such folder or file, or not a model that mlx-lm can load.
        HubError: the Hub refused or could not be reached.
    """
    return open_model(_locate(section, trusted, on_stage), section.path, trusted=trusted)


def open_model(path: Path, name: str, *, trusted: bool = False) -> ModelFolder:
    """Open a model on disk.

    Raises:
        SetupError: not a model that mlx-lm can load, or it needs its own code and is not trusted.
    """
    if not (path / "config.json").is_file() or not any(map(Path.is_file, path.glob("model*.safetensors"))):
        raise SetupError(
            f"{path}: not a model folder (config.json and model*.safetensors are needed)",
            hint="give a Hub id, a folder in mlx-lm's format, a GGUF file, or smollm2-135m; weights are read from "
            "safetensors only, never from a pickle",
        )
    if (code := read_json(path).get("model_file")) is not None and not trusted:
        raise SetupError(
            f"{path}: the model needs its own Python code ({code}), which was not run",
            hint="--trust-remote-code runs it, with full access to your files",
        )
    return ModelFolder(path=path.absolute(), name=name, fingerprint=_fingerprint(path), trusted=trusted)


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        for file in sorted({file for pattern in _TEXTS for file in path.glob(pattern)}):
            digest.update(f"{file.name}:".encode() + file.read_bytes())
        if renamed := rope_settings(read_json(path)):  # earlier versions did not read them
            digest.update(json.dumps(renamed, sort_keys=True).encode())
        for file in sorted(path.glob("model*.safetensors")):
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}:".encode())
            with file.open("rb") as weights:
                for number in range(_STRETCHES):
                    weights.seek(number * max(0, size - _STRETCH_BYTES) // (_STRETCHES - 1))
                    digest.update(weights.read(_STRETCH_BYTES))
    except OSError as error:
        raise SetupError(
            f"{error.filename} cannot be read: {error.strerror}", hint="download the model again"
        ) from None
    return digest.hexdigest()


def load_tokenizer(folder: ModelFolder) -> Any:
    """Load mlx-lm's tokenizer wrapper of the model; takes about a second, without weights.

    Raises:
        SetupError: it cannot be read, or needs its own code and is not trusted.
    """
    from mlx_lm.utils import load_config, load_tokenizer

    eos = load_config(folder.path).get("eos_token_id")
    try:
        return load_tokenizer(folder.path, {"trust_remote_code": folder.trusted}, eos_token_ids=eos)
    except (ValueError, OSError, KeyError) as error:
        raise SetupError(f"{folder.path}: the tokenizer cannot be used: {first_line(error)}") from None


def vocabulary_size(folder: ModelFolder) -> int:
    """Return the model's vocabulary size; token ids are below it.

    Raises:
        SetupError: the configuration does not have it, or cannot be read.
    """
    config = read_json(folder.path)
    size = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    if not size:
        raise SetupError(f"{folder.path / 'config.json'}: vocab_size is missing")
    return int(size)


def context_length(folder: ModelFolder) -> int | None:
    """Return the model's context length in tokens, if its configuration has it."""
    config = read_json(folder.path)
    name = "max_position_embeddings"
    length = config.get(name) or config.get("text_config", {}).get(name)
    return length if isinstance(length, int) else None


def chat_template(folder: Path) -> str | None:
    """Return the model's chat template as written; None if it has none, or several."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    template = read_json(folder, settings.name).get("chat_template") if settings.is_file() else None
    return template if isinstance(template, str) else None


def read_json(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Read the JSON object in a file of a model or an adapter.

    Raises:
        SetupError: it cannot be read, or is not an object.
    """
    try:
        content = json.loads((folder / name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SetupError(f"{folder / name} cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise SetupError(f"{folder / name} is not a JSON object")
    return content


def _locate(section: ModelSection, trusted: bool, on_stage: Callable[[str], None]) -> Path:
    if section.path == builtin.ALIAS:
        return builtin.builtin_model(on_stage)
    path = user_path(section.path)
    if path.suffix == ".gguf":
        return _converted(path, on_stage)
    if path.is_dir():
        return path
    if section.path.count("/") == 1 and not section.path.startswith((".", "/", "~")):
        return _download(section, trusted, on_stage)
    raise SetupError(
        f"model {section.path!r}: no such folder, and not a Hub id (org/name)",
        hint=f"the built-in model is {builtin.ALIAS}",
    )


def _converted(path: Path, on_stage: Callable[[str], None]) -> Path:
    if not path.is_file():
        raise SetupError(f"model {str(path)!r}: no such file")
    target = builtin.cache_folder() / "models" / f"{path.stem}-{sha256_of(path)[:12]}"
    if not target.exists():
        on_stage(f"converting {path.name} for MLX …")
        convert_gguf(path, target)
    return target


def _download(section: ModelSection, trusted: bool, on_stage: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    on_stage(f"looking up {section.path} on the Hub, downloading missing files …")
    files = [*_HUB_FILES, "*.py"] if trusted else list(_HUB_FILES)
    with hub_errors(f"model {section.path!r}", section.path, "fetched"):
        return Path(snapshot_download(section.path, revision=section.revision, allow_patterns=files))
