"""`ipfs-mfs sync`: everything acknowledged becomes durable and part of the DAG."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb


@verb("sync", examples="ipfs-mfs sync\nipfs-mfs sync photos --json")
@click.argument("root", required=False)
def command(app: App, root: str | None) -> None:
    """Prints `ROOT CID` for the named root, or for every root."""
    for item in app.node.sync(root):
        app.output.record(item, f"{item.name} {item.cid}")
