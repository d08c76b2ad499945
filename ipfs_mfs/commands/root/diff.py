"""`ipfs-mfs root diff`."""

import click

from ipfs_mfs.app import App, name_text
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("diff", summaries=ROOT_COMMANDS, examples="ipfs-mfs root diff main@v1 main")
@click.argument("first", metavar="NAME[@SNAP]")
@click.argument("second", metavar="NAME[@SNAP]")
def command(app: App, first: str, second: str) -> None:
    """Prints `added`, `removed` or `changed`, and the path. Equal parts are skipped by CID."""
    for item in app.node.root_diff(first, second):
        app.output.record(item, f"{item.change:7} {name_text(item.path)}")
