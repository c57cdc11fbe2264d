"""Exports of a run: fused models, adapters for other programs, preference data, and repositories on the Hub."""
