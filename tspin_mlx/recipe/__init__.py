"""Recipes (YAML) and the plans made from them. Pure: no model, no MLX."""
