"""Log-probabilities of responses: collation, prompt prefix sharing, the LM head."""
