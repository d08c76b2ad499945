"""`ipfs-mfs ls`: the entries of a directory."""

import click

from ipfs_mfs.app import App, name_text
from ipfs_mfs.cli import verb


@verb("ls", examples="ipfs-mfs ls main\nipfs-mfs ls -l main@now/photos")
@click.argument("address", metavar="ADDR")
@click.option("-l", "--long", "long_form", is_flag=True, help="Also print kind, CID and size.")
def command(app: App, address: str, long_form: bool) -> None:
    """Prints a name per line, in the order of the directory's blocks."""
    for entry in app.node.ls(address):
        text = name_text(entry.name)
        if long_form:
            size = "-" if entry.size_bytes is None else str(entry.size_bytes)
            text = f"{entry.kind:9} {entry.cid} {size:>12} {text}"
        app.output.record(entry, text)
