"""A recipe over settings and seeds, and the comparison of its runs."""
