"""Storage engine: opaque keys and values on one device, crash-safe. Start at blkdev/store.py."""
