"""Examples: read from files or the Hub, split, and tokenised."""
