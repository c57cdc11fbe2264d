"""Speed and memory against plain ways of doing the same, and against others. See ``python -m benchmarks --help``."""

import tspin_mlx  # noqa: F401  on Linux it loads OpenBLAS, which must be there before MLX
