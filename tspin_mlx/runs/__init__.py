"""Run folders: creation, files and digests, lock, event log, policies by name."""
