"""The program `ipfs-mfs`: configuration, wiring, the node daemon and the commands."""

__version__ = "0.1.0"
