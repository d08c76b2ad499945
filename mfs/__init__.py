"""Mutable trees over immutable DAGs: named roots, POSIX operations, flush and journal."""
