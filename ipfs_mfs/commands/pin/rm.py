"""`ipfs-mfs pin rm`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import PIN_COMMANDS, verb


@verb("rm", summaries=PIN_COMMANDS, examples="ipfs-mfs pin rm bafybeib…")
@click.argument("address", metavar="ADDR")
def command(app: App, address: str) -> None:
    """The blocks stay until the next `gc`."""
    pin = app.node.pin_rm(address)
    app.output.record(pin, f"unpinned {pin.cid}")
