"""fusefs."""
