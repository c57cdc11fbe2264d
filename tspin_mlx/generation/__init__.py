"""Generation: in batches, streaming, and chat."""
