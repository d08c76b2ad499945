"""Blocks by CID, refs by name, what is alive and what happens on a miss."""
