"""`ipfs-mfs pin ls`."""

from ipfs_mfs.app import App
from ipfs_mfs.cli import PIN_COMMANDS, verb


@verb("ls", summaries=PIN_COMMANDS, examples="ipfs-mfs pin ls\nipfs-mfs pin ls --json")
def command(app: App) -> None:
    """Prints `CID KIND NAME`, sorted by CID. Roots and snapshots need no pin and are not listed."""
    for pin in app.node.pin_ls():
        kind = "recursive" if pin.recursive else "direct"
        app.output.record(pin, f"{pin.cid} {kind} {pin.name}".rstrip())
