"""The kernel's view of the mutable trees: a transport-neutral file system, and its mounts."""
