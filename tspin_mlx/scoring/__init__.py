"""Log-probabilities of responses: collation, shared prompts, the vocabulary head."""
