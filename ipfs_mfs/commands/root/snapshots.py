"""`ipfs-mfs root snapshots`."""

import click

from ipfs_mfs.app import App, time_text
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("snapshots", summaries=ROOT_COMMANDS, examples="ipfs-mfs root snapshots main")
@click.argument("name")
def command(app: App, name: str) -> None:
    """Prints `ROOT@SNAP CID TIME`, oldest first."""
    for item in app.node.root_snapshots(name):
        text = f"{item.root}@{item.name} {item.cid} {time_text(item.created_ns)}"
        app.output.record(item, text)
