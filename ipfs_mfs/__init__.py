"""ipfs_mfs."""
