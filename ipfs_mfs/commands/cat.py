"""`ipfs-mfs cat`: file content to standard output, as bytes."""

import sys

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb


@verb(
    "cat",
    examples="ipfs-mfs cat main/notes.txt\n"
    "ipfs-mfs cat --offset 1000 --length 16 main@now/disk.img | xxd",
)
@click.argument("address", metavar="ADDR")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="First byte to write.")
@click.option("--length", type=click.IntRange(min=0), help="How many bytes to write; else all.")
def command(app: App, address: str, offset: int, length: int | None) -> None:
    """Every block is verified before its bytes are written. `--json` changes nothing here."""
    output = sys.stdout.buffer
    for data in app.node.cat(address, offset, length):
        output.write(data)
    output.flush()
