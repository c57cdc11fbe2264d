"""What a run shows: events, the view folded from them, and charts. No model, no MLX."""
