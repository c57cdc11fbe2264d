"""The panes of the screen of a run."""
