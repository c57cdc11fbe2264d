"""``python -m tspin_mlx``."""

from .cli import main

main()
