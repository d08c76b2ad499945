"""`ipfs-mfs export`: a DAG as a CAR file."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.extract import check_absent
from ipfs_mfs.sizes import size_text


@verb(
    "export",
    examples="ipfs-mfs export main -o main.car\n"
    "ipfs-mfs export main@today --since main@yesterday -o delta.car\n"
    "ipfs-mfs export main | ssh backup ipfs-mfs import --root main -",
)
@click.argument("address", metavar="ADDR")
@click.option("-o", "--output", metavar="FILE", help="Where to; default: standard output.")
@click.option("--since", metavar="ADDR", help="Leave out the blocks of this DAG.")
def command(app: App, address: str, output: str | None, since: str | None) -> None:
    """CAR version 1, blocks in the order of a walk. The file must not exist; it appears complete
    or not at all."""
    if output is None:
        if sys.stdout.isatty():
            raise click.UsageError("a CAR file is binary: name a file with -o, or use a pipe")
        _write(app.node.export(address, since), sys.stdout.buffer.write)
        sys.stdout.flush()
        return
    target = Path(output).absolute()
    check_absent(target)
    info = app.node.stat(address)
    with app.output.meter("export", None if since else info.dag_size_bytes) as meter:
        written_bytes = _write_file(app.node.export(address, since), target, meter.advance)
    app.output.record(
        {"cid": info.cid, "path": str(target), "bytes": written_bytes},
        f"{target}: {info.cid}, {size_text(written_bytes)}",
    )


def _write(
    pieces: Iterable[bytes],
    write: Callable[[bytes], object],
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    written_bytes = 0
    for data in pieces:
        write(data)
        written_bytes += len(data)
        advance(len(data))
    return written_bytes


def _write_file(pieces: Iterable[bytes], target: Path, advance: Callable[[int], None]) -> int:
    """Under a temporary name until it is complete and on the disk."""
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.new")
    try:
        with temporary.open("xb") as file:
            written_bytes = _write(pieces, file.write, advance)
            file.flush()
            os.fsync(file.fileno())
        check_absent(target)
        temporary.rename(target)
        return written_bytes
    finally:
        temporary.unlink(missing_ok=True)
