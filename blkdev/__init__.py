"""blkdev."""
