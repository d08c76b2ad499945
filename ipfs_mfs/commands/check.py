"""`ipfs-mfs check`: read and verify everything, say which names are hit."""

from ipfs_mfs.api import Progress
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.errors import DamageFound
from ipfs_mfs.sizes import size_text


@verb("check", examples="ipfs-mfs check\nipfs-mfs check --json")
def command(app: App) -> None:
    """Reads every record of the device, verifies every block against its CID, and walks every
    root, snapshot and pin. Writes nothing. Exit status 5 when something is damaged or missing."""
    with app.output.meter("check") as meter:

        def report(progress: Progress) -> None:
            meter.set(progress.done, progress.total)

        summary = app.node.check(report)
    lines = [
        f"{finding.severity}: {finding.where}: {finding.problem}" for finding in summary.findings
    ]
    verdict = "damaged" if summary.damaged else "clean"
    lines.append(
        f"{verdict}: {summary.blocks} blocks, {size_text(summary.bytes_read)} read, "
        f"{summary.roots} roots, snapshots and pins walked"
    )
    app.output.record(summary, "\n".join(lines))
    if summary.damaged:
        bad = sum(finding.severity == "damaged" for finding in summary.findings)
        raise DamageFound(
            f"{bad} findings of damage",
            "restore the roots named above from a snapshot, or import their blocks again",
        )
