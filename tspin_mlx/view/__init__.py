"""Events of a run, the view reduced from them, and charts. No model, no MLX."""
