"""`ipfs-mfs root restore`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("restore", summaries=ROOT_COMMANDS, examples="ipfs-mfs root restore main@before-upgrade")
@click.argument("snapshot", metavar="NAME@SNAP")
def command(app: App, snapshot: str) -> None:
    """What the root held is lost, unless a snapshot keeps it. A mount shows it at once."""
    name, separator, snapshot_name = snapshot.partition("@")
    if not separator:
        raise click.UsageError("say which snapshot: NAME@SNAP")
    info = app.node.root_restore(name, snapshot_name)
    app.output.record(info, f"{info.name} {info.cid}")
