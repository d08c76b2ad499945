"""`ipfs-mfs stat`: CID, kind and sizes of what an address names."""

import click

from ipfs_mfs.app import App, time_text
from ipfs_mfs.cli import verb


@verb("stat", examples="ipfs-mfs stat main/photos\nipfs-mfs stat --json /ipfs/bafkqaaa")
@click.argument("address", metavar="ADDR")
def command(app: App, address: str) -> None:
    """A root's address brings its latest changes into the DAG first."""
    info = app.node.stat(address)
    lines = [f"cid       {info.cid}", f"kind      {info.kind}"]
    if info.size_bytes is not None:
        lines.append(f"size      {info.size_bytes}")
    lines += [f"dag size  {info.dag_size_bytes}", f"links     {info.links}"]
    if info.mode is not None:
        lines.append(f"mode      {info.mode:04o}")
    if info.mtime_ns is not None:
        lines.append(f"mtime     {time_text(info.mtime_ns)}")
    app.output.record(info, "\n".join(lines))
