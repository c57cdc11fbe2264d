"""Processes of a run: launch, supervise, stop; and experiment trackers."""
