"""State behind the screens, free of widgets: drafts, the run list, data sources, subprocesses."""
