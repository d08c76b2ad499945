"""`ipfs-mfs gc`: free what nothing refers to."""

import click

from ipfs_mfs.api import Progress
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.sizes import size_text


@verb("gc", examples="ipfs-mfs gc --dry-run\nipfs-mfs gc")
@click.option("--dry-run", is_flag=True, help="Count only; remove nothing.")
def command(app: App, dry_run: bool) -> None:
    """Roots, snapshots, the kept history of roots and pins hold on to their blocks. Safe while
    others write."""
    with app.output.meter("gc", unit="blocks") as meter:

        def report(progress: Progress) -> None:
            meter.set(progress.done, progress.total)

        summary = app.node.gc(dry_run, report)
    verb_text = "would remove" if dry_run else "removed"
    app.output.record(
        summary,
        f"{verb_text} {summary.blocks_removed} blocks, {size_text(summary.bytes_removed)}; "
        f"kept {summary.blocks_kept}",
    )
    for cid in summary.missing:
        app.output.note(f"missing {cid}: nothing below it is known")
