"""Experiments that test the claims of the T-SPIN paper (arXiv 2601.08198): tasks, sweeps, and what they came to.

docs/results.md says how to repeat them.
"""
