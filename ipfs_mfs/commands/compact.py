"""`ipfs-mfs compact`: move what is alive together, free the rest."""

from ipfs_mfs.api import Progress
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.sizes import size_text


@verb("compact", examples="ipfs-mfs compact")
def command(app: App) -> None:
    """`gc` does this by itself as space demands; here it is done to the end."""
    with app.output.meter("compact") as meter:

        def report(progress: Progress) -> None:
            meter.set(progress.done, progress.total)

        summary = app.node.compact(report)
    app.output.record(
        summary,
        f"freed {summary.segments_freed} segments, {size_text(summary.bytes_freed)}; "
        f"moved {size_text(summary.bytes_moved)}",
    )
