"""Speed and memory against plain ways of doing the same, and against others. See ``python -m benchmarks --help``."""
