"""`ipfs-mfs resize`: the store takes more of its device, or less; a plain file follows."""

import click

from ipfs_mfs.api import Progress
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.sizes import parse_size_bytes, size_text


@verb(
    "resize",
    examples="ipfs-mfs resize                   use all of a device or file that grew\n"
    "ipfs-mfs resize 32G --store ./store.blk\n"
    "ipfs-mfs resize 8G                before the device is made smaller",
)
@click.argument("size", required=False)
def command(app: App, size: str | None) -> None:
    """SIZE is that of the whole store, such as 32G; by default all that its device or file has. A
    plain file is made longer or cut; a device must have that much, and to make one smaller,
    shrink the store first. Mounts stay up. A power cut leaves the old size or the new one, and
    everything stored."""
    try:
        size_bytes = None if size is None else parse_size_bytes(size)
    except ValueError as error:
        raise click.UsageError(f"SIZE: {error}") from error
    if size_bytes is not None and size_bytes >= 1 << 63:
        raise click.UsageError(f"SIZE: nothing is as large as {size}")
    with app.output.meter("resize", unit="segments") as meter:

        def report(progress: Progress) -> None:
            meter.set(progress.done, progress.total)

        summary = app.node.resize(size_bytes, report)
    app.output.record(
        summary,
        f"{summary.store}: store of {size_text(summary.size_bytes)}, {summary.segments} segments "
        f"({summary.segments_before} before); moved {size_text(summary.bytes_moved)}, "
        f"free {size_text(summary.free_bytes)}",
    )
    if not summary.file_fits:
        app.output.note("the file is still longer: something reads it; resize again to cut it")
