"""The training loop, gradient checkpointing, checkpoints, and fitting into memory."""
