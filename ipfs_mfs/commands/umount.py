"""`ipfs-mfs umount`: everything written, the mount gone, the store closed."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb


@verb("umount", examples="ipfs-mfs umount ./mnt")
@click.argument("mountpoint")
def command(app: App, mountpoint: str) -> None:
    """Returns when everything is durable and the daemon has closed the store. When files on the
    mount are open, nothing changes and the exit status is 4."""
    from ipfs_mfs.mounting import unmount

    outcome = unmount(app.config, mountpoint)
    app.output.record(outcome, f"{outcome.mountpoint}: {outcome.what}")
