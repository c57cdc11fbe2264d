"""The method: its loss, its objective and its training data."""
