"""A run's processes: launched, supervised, stopped, and reported to trackers."""
