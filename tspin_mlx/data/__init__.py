"""Examples: read from files or the Hub, split, and rendered to token ids."""
