"""`ipfs-mfs pin add`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import PIN_COMMANDS, verb


@verb(
    "add",
    summaries=PIN_COMMANDS,
    examples="ipfs-mfs pin add bafybeib…\nipfs-mfs pin add --name release main@v1/dist",
)
@click.argument("address", metavar="ADDR")
@click.option(
    "--recursive/--direct",
    default=True,
    help="Keep everything below it too (default), or this one block only.",
)
@click.option("--name", default="", help="A note that `pin ls` shows.")
def command(app: App, address: str, recursive: bool, name: str) -> None:
    """Succeeds only when everything that it promises to keep is in the store."""
    pin = app.node.pin_add(address, recursive, name)
    app.output.record(pin, f"pinned {pin.cid} {'recursively' if pin.recursive else 'directly'}")
