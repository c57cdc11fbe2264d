"""Triplet-based Self-Play Fine-Tuning (T-SPIN, arXiv 2601.08198) with MLX.

Importing this package loads neither MLX nor mlx-lm; its modules do, when they need them.
"""

import contextlib
import ctypes
import sys

__version__ = "0.1.0"


def _preload_openblas() -> None:
    """Give MLX's Linux CPU backend a fast BLAS.

    The wheel binds to whichever BLAS the process already has, else to a reference one that is some fifty
    times slower, so the library must be here before anything imports ``mlx.core``.
    """
    with contextlib.suppress(OSError):  # everything works without, slowly; `scripts/install` says how to get it
        ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)


if sys.platform == "linux" and "mlx.core" not in sys.modules:
    _preload_openblas()
