"""The engine: runs the phases of a plan that are not done yet, in its own process."""
