"""Triplet-based Self-Play Fine-Tuning (T-SPIN, arXiv 2601.08198) with MLX.

    import tspin_mlx as ts

    run = ts.train(model="smollm2-135m", data=rows, name="my-task")
    ts.load(run).generate("...")

The API is in :mod:`tspin_mlx.api`, the algorithm in :mod:`tspin_mlx.tspin`, the losses in
:mod:`tspin_mlx.method.losses`. Importing this package loads neither MLX nor mlx-lm; its functions do, when they need
them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .base.machine import preload_openblas

if TYPE_CHECKING:
    from .api import TrainedModel, load, print_event, resume, train
    from .base.errors import TspinError
    from .method import losses
    from .runs.run import Run

__version__ = "0.1.0"

__all__ = ["Run", "TrainedModel", "TspinError", "load", "losses", "print_event", "resume", "train"]

_HOMES = {"Run": "runs.run", "TspinError": "base.errors"}


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used."""
    if name == "losses":
        return importlib.import_module(".method.losses", __name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES.get(name, 'api')}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


preload_openblas()
