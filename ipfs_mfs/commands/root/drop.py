"""`ipfs-mfs root drop`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("drop", summaries=ROOT_COMMANDS, examples="ipfs-mfs root drop scratch")
@click.argument("name")
def command(app: App, name: str) -> None:
    """Its blocks stay until the next `gc`, as far as no snapshot, pin or other root needs them."""
    app.node.root_drop(name)
    app.output.record({"dropped": name}, f"dropped {name}")
