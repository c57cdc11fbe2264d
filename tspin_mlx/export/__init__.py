"""What leaves a run: fused models, adapters for other programs, preference data, and a repository on the Hub."""
