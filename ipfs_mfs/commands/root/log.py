"""`ipfs-mfs root log`."""

import click

from ipfs_mfs.app import App, time_text
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("log", summaries=ROOT_COMMANDS, examples="ipfs-mfs root log main")
@click.argument("name")
def command(app: App, name: str) -> None:
    """Prints `TIME CID`, newest first, of the states that are still kept."""
    for entry in app.node.root_log(name):
        app.output.record(entry, f"{time_text(entry.changed_ns)} {entry.cid}")
