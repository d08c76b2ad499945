"""`ipfs-mfs mount`: the main job."""

import shutil
import sys

import click

from ipfs_mfs.api import MountInfo
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.config import TRANSPORTS, with_flags
from ipfs_mfs.sizes import size_text


@verb(
    "mount",
    examples="ipfs-mfs mount ./mnt\n"
    "ipfs-mfs mount /srv/photos --store /dev/sdb -o root=photos,allow_other\n"
    "ipfs-mfs mount /srv/all -o all\n"
    "ipfs-mfs mount /srv/site -o cid=bafybeib…",
)
@click.argument("mountpoint")
@click.option(
    "-o",
    "options",
    metavar="OPTIONS",
    multiple=True,
    help="Comma separated: root=NAME (default main), all, cid=CID, ro, allow_other, uid=, gid=, "
    "umask=, noatime, read_ahead=, sync=fsync|close|always, nonempty, "
    "transport=auto|pyfuse3|kernel.",
)
@click.option(
    "--transport",
    type=click.Choice(TRANSPORTS),
    help="How to talk to the kernel: through libfuse (auto), or in its own protocol.",
)
@click.option("--foreground", is_flag=True, help="Stay here until Ctrl-C; log to the terminal.")
def command(
    app: App,
    mountpoint: str,
    options: tuple[str, ...],
    transport: str | None,
    foreground: bool,
) -> None:
    """Returns when the mount is up; a daemon of its own serves it until `umount`. When the mount
    is up already, says so and changes nothing. Without any store it makes the default one."""
    from ipfs_mfs.mounting import ensure_store, mount, mount_in_foreground

    config = with_flags(app.config, transport=transport)
    if ensure_store(config):
        app.output.note(
            f"made a store of {size_text(config.store_size_bytes)} at {config.store} "
            "(a sparse file: it takes only what is used)"
        )
    text = ",".join(part for part in (config.mount_options, *options) if part)
    if foreground:
        mount_in_foreground(config, mountpoint, text, lambda info: _report(app, info))
    else:
        _report(app, mount(config, mountpoint, text))


def _report(app: App, info: MountInfo) -> None:
    state = "mounted" if info.created else "is up already"
    what = f"{info.root}, CID {info.cid}" if info.cid else f"{info.root} roots"
    app.output.record(info, f"{info.mountpoint}: {state}, {what}")
    if not info.created:
        return
    program = "ipfs-mfs" if shutil.which("ipfs-mfs") else sys.argv[0]
    app.output.note(
        "Three things to try:\n"
        f"  cp -a /usr/include {info.mountpoint}/\n"
        f"  getfattr --only-values -n ipfs.cid {info.mountpoint}/include\n"
        f"  {program} root snapshot main first && {program} ls main@first"
    )
