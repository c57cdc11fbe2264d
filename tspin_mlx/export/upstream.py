"""Which repository on the Hub a run's model came from, found in the model's own files: no network is needed."""

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
    """The model that an adapter belongs to, in words that may be published.

    Attributes:
        folder: the model the run was trained on, on this machine.
        trained_on: what that is: a Hub id, the built-in model's name, or the last part of a local path.
        id: the Hub repository with the weights as their makers published them; None if it is not known.
        license: of those, as the Hub names it, if known.
        bits: of the quantised weights that the run was trained on; None if they were not quantised.
    """

    folder: Path
    trained_on: str
    id: str | None
    license: str | None
    bits: int | None


def find_base(folder: Path, name: str, given: str | None = None) -> Base:
    """What there is to know of the model in ``folder``.

    Args:
        name: what the recipe called it.
        given: its upstream id, if the user gave one; it is taken as it is.

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
    # A conversion's card names what was converted; in other cards base_model is an ancestor with other weights.
    converted = bits is not None or card.get("library_name") == "mlx"
    found = given or (_only_id(card.get("base_model")) if converted else own or _only_id(config.get("_name_or_path")))
    license = card.get("license") if isinstance(card.get("license"), str) else None
    return Base(folder, own or Path(name).name, found, license, bits)


def no_base(base: Base) -> UsageError:
    """Nothing in the model's files says which repository it came from."""
    return UsageError(
        f"{base.folder}: nothing there says which model on the Hub {base.trained_on} was made from",
        hint="say it with --base OWNER/NAME: the repository of the original, not quantised, weights",
    )


def _only_id(value: Any) -> str | None:
    """A Hub id, given alone or as a list of one; None for anything else, such as the parts of a merge."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _card(folder: Path) -> dict[str, Any]:
    """Metadata of the model's card; empty if there is none that can be read."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        return metadata_load(folder / "README.md") or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
