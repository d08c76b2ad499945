"""`ipfs-mfs root list`."""

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb


@verb("list", summaries=ROOT_COMMANDS, examples="ipfs-mfs root list\nipfs-mfs root list --json")
def command(app: App) -> None:
    """Prints `NAME CID SIZE`, sorted by name."""
    for info in app.node.root_list():
        app.output.record(info, f"{info.name} {info.cid} {info.size_bytes}")
