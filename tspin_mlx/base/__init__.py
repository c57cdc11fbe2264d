"""Foundations: errors, text, paths, seeds, file system, the machine, signals."""
