"""The panes (tabs) of the run screen."""
