"""Foundations: errors, text, paths, seeds, storage, the machine, signals."""
