"""`ipfs-mfs scrub`: verify everything in the background of daily use."""

import click

from ipfs_mfs.api import Progress
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.errors import DamageFound
from ipfs_mfs.sizes import parse_size_bytes, size_text


@verb("scrub", examples="ipfs-mfs scrub --rate 20M\nipfs-mfs scrub --restart")
@click.option("--rate", metavar="SIZE", help="Bytes to read per second at most, 20M for example.")
@click.option(
    "--resume/--restart", default=True, help="Go on where the last scrub was ended (the default)."
)
def command(app: App, rate: str | None, resume: bool) -> None:
    """Reads everything that is alive from the device and verifies its checksums, while others read
    and write. A block that is damaged is reported as damaged from then on, and is stored anew when
    it is added again. Can be ended at any time. Exit status 5 when something is damaged."""
    try:
        rate_bytes_s = None if rate is None else parse_size_bytes(rate)
    except ValueError as error:
        raise click.UsageError(f"--rate: {error}") from error
    if rate_bytes_s == 0:
        raise click.UsageError("--rate: nothing can be read at that rate")
    with app.output.meter("scrub") as meter:

        def report(progress: Progress) -> None:
            meter.set(progress.done, progress.total)

        summary = app.care().scrub(rate_bytes_s, not resume, report)
    lines = [
        f"{finding.severity}: {finding.where}{f' {finding.cid}' if finding.cid else ''}: "
        f"{finding.problem}"
        for finding in summary.findings
    ]
    verdict = "damaged" if summary.damaged else "clean"
    since = ", going on from the last scrub" if summary.resumed else ""
    lines.append(
        f"{verdict}: {summary.segments} segments, {summary.records} records, "
        f"{size_text(summary.bytes_read)} read{since}"
    )
    app.output.record(summary, "\n".join(lines))
    if summary.damaged:
        raise DamageFound(
            f"{len(summary.findings)} findings of damage",
            "add what is damaged again, then `ipfs-mfs check --repair`",
        )
