"""Random seeds: every random number of a run is derived from its one seed, by name; no generator state is stored."""

from __future__ import annotations

import hashlib
import json


def derive(seed: int, *names: str | int) -> int:
    """Derive a seed in [0, 2**63) for one named use of randomness.

    The same names always give the same seed, and different names unrelated ones, so a step can be repeated
    without replaying the steps before it: ``derive(run_seed, "train", iteration, step)``.
    """
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
