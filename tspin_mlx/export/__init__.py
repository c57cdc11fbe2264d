"""Exports of a run: fused models, adapters, GGUF, triplets, the Hub."""
