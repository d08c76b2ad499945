"""`ipfs-mfs format`: a new, empty store."""

from pathlib import Path

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.config import with_flags
from ipfs_mfs.sizes import parse_size_bytes, size_text


@verb(
    "format",
    examples="ipfs-mfs format /dev/sdb\nipfs-mfs format ./store.blk --size 64G",
)
@click.argument("path")
@click.option("--size", help="Size of a new file (default 16G); a device is used whole.")
@click.option("--segment-size", help="Unit of space reclamation (default 16M; less if small).")
@click.option("--force", is_flag=True, help="Also over another file system or an existing store.")
def command(app: App, path: str, size: str | None, segment_size: str | None, force: bool) -> None:
    """The store has one root, `main`. What was on the device is lost; without --force, a device
    that holds anything known is refused."""
    from ipfs_mfs.formatting import format_store

    config = with_flags(
        app.config,
        store=Path(path).expanduser().absolute(),
        segment_size_bytes=_size(segment_size, "--segment-size"),
    )
    made = format_store(config, size_bytes=_size(size, "--size"), force=force)
    app.output.record(
        made,
        f"{made.store}: store of {size_text(made.device_bytes)}, root {made.root}, CID {made.cid}",
    )


def _size(text: str | None, flag: str) -> int | None:
    try:
        return None if text is None else parse_size_bytes(text)
    except ValueError as error:
        raise click.UsageError(f"{flag}: {error}") from error
