"""Triplet-based Self-Play Fine-Tuning (T-SPIN, arXiv 2601.08198) with MLX.

Importing this package loads neither MLX nor mlx-lm; its modules do, when they need them.
"""

from .base.machine import preload_openblas

__version__ = "0.1.0"

preload_openblas()
