"""ipld."""
