"""The experiments behind docs/results.md."""
