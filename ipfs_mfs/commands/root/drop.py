"""`ipfs-mfs root drop`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb(
    "drop",
    summaries=ROOT_COMMANDS,
    examples="ipfs-mfs root drop scratch\nipfs-mfs root drop main@yesterday",
)
@click.argument("name", metavar="NAME[@SNAP]")
def command(app: App, name: str) -> None:
    """With @SNAP, drops that snapshot instead. The blocks stay until the next `gc`, which keeps
    those that a snapshot, a pin or another root needs."""
    root, separator, snapshot = name.partition("@")
    app.node.root_drop(root, snapshot if separator else None)
    app.output.record({"dropped": name}, f"dropped {name}")
