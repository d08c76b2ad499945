"""What the C helper does, in Python: for machines without a compiler, and to compare it with."""
