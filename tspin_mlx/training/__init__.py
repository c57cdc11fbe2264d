"""The training loop, gradient checkpointing, checkpoints, and what fits into memory."""
