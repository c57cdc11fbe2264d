"""The policy answers: in batches, as a stream, in a chat."""
