"""Giving back the space of dead records: which segments to empty, how fast, and how."""
