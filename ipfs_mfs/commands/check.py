"""`ipfs-mfs check`: read and verify everything, say which names are hit; repair on demand."""

import click

from ipfs_mfs.api import CheckSummary, Progress
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.errors import DamageFound
from ipfs_mfs.sizes import size_text


@verb("check", examples="ipfs-mfs check\nipfs-mfs check --json\nipfs-mfs check --repair")
@click.option("--repair", is_flag=True, help="Keep what verifies, drop what does not, tell which.")
def command(app: App, repair: bool) -> None:
    """Reads every record of the device, verifies every block against its CID, and walks every
    root, snapshot and pin. Without --repair it writes nothing; with it, damaged blocks are missing
    afterwards, so that they can be imported again, and segments that cannot be read are not used
    any more. Exit status 5 when something is damaged or missing."""
    with app.output.meter("check") as meter:

        def report(progress: Progress) -> None:
            meter.set(progress.done, progress.total)

        summary = app.care().check(report, repair)
    lines = [
        f"{finding.severity}: {finding.where}: {finding.problem}" for finding in summary.findings
    ]
    if repair:
        lines.append(_repaired(summary))
    verdict = "damaged" if summary.damaged else "clean"
    lines.append(
        f"{verdict}: {summary.blocks} blocks, {size_text(summary.bytes_read)} read, "
        f"{summary.roots} roots, snapshots and pins walked"
    )
    app.output.record(summary, "\n".join(lines))
    if summary.damaged:
        bad = sum(finding.severity in ("damaged", "lost") for finding in summary.findings)
        raise DamageFound(
            f"{bad} findings of damage",
            "restore the roots named above from a snapshot, or import their blocks again",
        )


def _repaired(summary: CheckSummary) -> str:
    done = summary.repair
    return (
        f"repair: {done.records_lost} records dropped, {done.records_kept} moved, "
        f"{done.segments_freed} segments freed, {done.segments_retired} taken out of use"
    )
