"""`ipfs-mfs get`: a file or a tree out of the store."""

from pathlib import Path

import click

from ipfs_mfs.address import parse
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.extract import check_absent, extract
from ipfs_mfs.sizes import size_text


@verb("get", examples="ipfs-mfs get main/photos\nipfs-mfs get bafybeib… -o ./copy")
@click.argument("address", metavar="ADDR")
@click.option("-o", "--output", metavar="PATH", help="Where to; default: its name, right here.")
def command(app: App, address: str, output: str | None) -> None:
    """The target must not exist; it appears complete or not at all. Modes and times are set where
    the DAG has them."""
    target = Path(output or parse(address).last_name).absolute()
    check_absent(target)
    info = app.node.stat(address)
    with app.output.meter("get", info.size_bytes or info.dag_size_bytes) as meter:
        written_bytes = extract(app.node.tree(address), target, meter.advance)
    app.output.record(
        {"cid": info.cid, "path": str(target), "bytes": written_bytes},
        f"{target}: {size_text(written_bytes)}",
    )
