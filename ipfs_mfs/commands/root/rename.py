"""`ipfs-mfs root rename`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("rename", summaries=ROOT_COMMANDS, examples="ipfs-mfs root rename photos pictures")
@click.argument("name")
@click.argument("new_name")
def command(app: App, name: str, new_name: str) -> None:
    """Its snapshots go with it."""
    info = app.node.root_rename(name, new_name)
    app.output.record(info, f"{info.name} {info.cid}")
