"""Held-out measures, task metrics, the collapse guard, and the lm-evaluation-harness."""
