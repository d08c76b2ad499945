"""`ipfs-mfs root clone`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb(
    "clone",
    summaries=ROOT_COMMANDS,
    examples="ipfs-mfs root clone main work\nipfs-mfs root clone main@v1 v1-fixes",
)
@click.argument("source", metavar="NAME[@SNAP]")
@click.argument("new_name", metavar="NEW")
def command(app: App, source: str, new_name: str) -> None:
    """Takes constant time and no space; later changes of either do not show in the other."""
    name, separator, snapshot = source.partition("@")
    info = app.node.root_clone(name, snapshot if separator else None, new_name)
    app.output.record(info, f"{info.name} {info.cid}")
