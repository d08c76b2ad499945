"""pinning."""
