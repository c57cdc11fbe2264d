"""Find the Hub repository of a run's base model, with licence and bits, from the model's own files, offline."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UsageError
from ..models import builtin
from ..models.folder import read_json

_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Base:
    """The base model of an adapter, in words that may be published.

    Attributes:
        folder: the model that was trained, on this machine.
        trained_on: its name: a Hub id, the built-in model's name, or the last part of a local path.
        id: the Hub repository of the original weights; None if it is not known.
        license: of those, as the Hub names it, if known.
        bits: bits of the quantised weights that were trained on; None if they were not quantised.
    """

    folder: Path
    trained_on: str
    id: str | None
    license: str | None
    bits: int | None


def find_base(folder: Path, name: str, given: str | None = None) -> Base:
    """Find the base model of the model in ``folder``.

    Args:
        name: as in the recipe.
        given: its Hub id, if the user gave one; used as it is.

    Raises:
        UsageError: ``given`` is not a Hub id.
        SetupError: the model's configuration cannot be read.
    """
    if given is not None and not _ID.fullmatch(given):
        raise UsageError(f"--base {given!r} is not a Hub id", hint="ids look like Qwen/Qwen3-0.6B")
    config, card = read_json(folder), _card(folder)
    quantization = config.get("quantization")
    bits = quantization.get("bits") if isinstance(quantization, dict) else None
    if name == builtin.ALIAS:
        return Base(folder, name, given or builtin.UPSTREAM, None if given else builtin.LICENSE, bits)
    on_hub = f"models--{name.replace('/', '--')}" in folder.parts
    own = name if on_hub else None
    # A conversion's card names its original; in other cards base_model is an ancestor with other weights.
    converted = bits is not None or card.get("library_name") == "mlx"
    hub_id = given or (_only_id(card.get("base_model")) if converted else own or _only_id(config.get("_name_or_path")))
    license = card.get("license") if isinstance(card.get("license"), str) else None
    return Base(folder, own or Path(name).name, hub_id, license, bits)


def no_base(base: Base) -> UsageError:
    """Return the error for a model whose files do not name a Hub repository."""
    return UsageError(
        f"{base.folder}: the files do not say which Hub model {base.trained_on} was made from",
        hint="give the repository of the original, not quantised weights with --base OWNER/NAME",
    )


def _only_id(value: Any) -> str | None:
    """Return a Hub id, given alone or as a list of one; None for anything else, such as the parts of a merge."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _card(folder: Path) -> dict[str, Any]:
    """Read the metadata of the model's card; empty if it has none, or it is unreadable."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        return metadata_load(folder / "README.md") or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
