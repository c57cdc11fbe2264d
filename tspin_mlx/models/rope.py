"""RoPE settings: translate transformers 5's ``rope_parameters`` to the keys that mlx-lm reads. Pure."""

from __future__ import annotations

from typing import Any

#: Key under ``base`` in an adapter's configuration: mlx-lm alone would not read the model's RoPE settings.
UNKNOWN_ROPE = "rope_unknown_to_mlx_lm"


def rope_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return transformers 5's RoPE settings under the keys of earlier versions; empty if those are present.

    Most models of mlx-lm read only the earlier keys, and silently use defaults if they are missing.
    """
    text = config.get("text_config")
    settings = _renamed(config)
    if isinstance(text, dict) and (inner := _renamed(text)):
        settings["text_config"] = {**text, **inner}
    return settings


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" in config:
        return {}
    whole, sliding = (rope.get(kind) for kind in ("full_attention", "sliding_attention"))  # where layers differ
    whole = whole if isinstance(whole, dict) else rope
    if "rope_theta" not in whole:
        return {}
    settings = {key: whole[key] for key in ("rope_theta", "partial_rotary_factor") if key in whole}
    if (kind := whole.get("rope_type", "default")) != "default":
        settings["rope_scaling"] = {**whole, "type": kind}
    if isinstance(sliding, dict) and "rope_theta" in sliding:
        settings["rope_local_base_freq"] = sliding["rope_theta"]
    return settings
