"""`ipfs-mfs root snapshot`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("snapshot", summaries=ROOT_COMMANDS, examples="ipfs-mfs root snapshot main before-upgrade")
@click.argument("name")
@click.argument("snapshot")
def command(app: App, name: str, snapshot: str) -> None:
    """Takes constant time and no space. `ROOT@SNAP` and `.snapshots/SNAP` name it from then on."""
    info = app.node.root_snapshot(name, snapshot)
    app.output.record(info, f"{info.root}@{info.name} {info.cid}")
