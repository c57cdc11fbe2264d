"""The engine's process: does each phase of a plan that is not done."""
