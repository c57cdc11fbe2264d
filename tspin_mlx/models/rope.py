"""Rotary settings of a model: where transformers 5 writes them, and where most models of mlx-lm look for them. Pure."""

from __future__ import annotations

from typing import Any

#: In the description of an adapter, under ``base``: mlx-lm alone would not find the model's rotary settings.
UNKNOWN_ROPE = "rope_unknown_to_mlx_lm"


def rope_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What transformers 5 says of rotary positions, under the keys of earlier versions; empty if those are there.

    Most models of mlx-lm read only those, and silently take their defaults where they are missing.
    """
    text = config.get("text_config")
    found = _renamed(config)
    if isinstance(text, dict) and (inner := _renamed(text)):
        found["text_config"] = {**text, **inner}
    return found


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" in config:
        return {}
    whole, sliding = (rope.get(kind) for kind in ("full_attention", "sliding_attention"))  # where layers differ
    whole = whole if isinstance(whole, dict) else rope
    if "rope_theta" not in whole:
        return {}
    found = {key: whole[key] for key in ("rope_theta", "partial_rotary_factor") if key in whole}
    if (kind := whole.get("rope_type", "default")) != "default":
        found["rope_scaling"] = {**whole, "type": kind}
    if isinstance(sliding, dict) and "rope_theta" in sliding:
        found["rope_local_base_freq"] = sliding["rope_theta"]
    return found
