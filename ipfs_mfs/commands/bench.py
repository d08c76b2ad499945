"""`ipfs-mfs bench`: the store beside the limits of its device and of this machine."""

from typing import TYPE_CHECKING

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.sizes import size_text

if TYPE_CHECKING:
    from ipfs_mfs.measuring import Measured


@verb(
    "bench",
    examples="ipfs-mfs bench\nipfs-mfs bench --store /dev/sdb --seconds 60 --json",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.01, 3600),
    default=10.0,
    show_default=True,
    help="About how long to measure.",
)
def command(app: App, seconds: float) -> None:
    """Stores random blocks, reads and deletes them, and shows each rate beside what the hash
    function, the memory and the device can do at best, measured in the same run. Needs the store
    alone and 128 MiB of free space, and leaves nothing behind."""
    from ipfs_mfs.benchmark import measure_store

    with app.output.meter("bench", unit="parts") as meter:
        measured = measure_store(app.config, seconds, meter.set)
    app.output.record(measured, text(measured))


def text(measured: "Measured") -> str:
    """Two tables for people."""
    lines = [
        f"{measured.store}: {size_text(measured.device_bytes)}, {measured.cores} processors",
        f"{measured.blocks} blocks stored and deleted again in {measured.seconds:.1f} s",
        "",
        f"{'limit of this machine':<28}{'measured':>16}",
    ]
    lines += [f"{name:<28}{_figure(value, unit):>16}" for name, value, unit in measured.limits]
    lines += ["", f"{'store':<28}{'measured':>16}{'of limit':>10}{'p50':>10}{'p99':>10}  limit"]
    for row in measured.rows:
        share = "" if row.ratio is None else f"{row.ratio:.2f}"
        waits = ["" if wait is None else f"{wait:.2f} ms" for wait in (row.p50_ms, row.p99_ms)]
        lines.append(
            f"{row.name:<28}{_figure(row.value, row.unit):>16}{share:>10}"
            f"{waits[0]:>10}{waits[1]:>10}  {row.limit}".rstrip()
        )
    return "\n".join(lines)


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
