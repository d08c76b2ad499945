"""`ipfs-mfs import`: the blocks of a CAR file into the store."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from ipfs_mfs.api import NewRoot
from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.errors import BadOption
from ipfs_mfs.names import check_root_name
from ipfs_mfs.sizes import size_text


@verb(
    "import",
    examples="ipfs-mfs import main.car\nipfs-mfs import main.car --root copy\n"
    "ssh other ipfs-mfs export main | ipfs-mfs import -",
)
@click.argument("file", metavar="FILE.car|-")
@click.option("--root", "root_name", metavar="NAME", help="Make a root from the file's only root.")
@click.option(
    "--pin/--no-pin", default=True, help="Pin the file's roots (default, without --root)."
)
def command(app: App, file: str, root_name: str | None, pin: bool) -> None:
    """CAR version 1 or 2. Every block is verified. A DAG that needs blocks which are neither in the
    file nor in the store is refused by name; the blocks that came stay until the next `gc`."""
    from ipld.car import CarReader
    from ipld.cid import to_text

    if root_name is not None:
        check_root_name(root_name)
    with _opened(file) as (source, total), app.output.meter("import", total) as meter:
        reader = CarReader(source.read)
        roots = [to_text(cid) for cid in reader.roots]
        if root_name is not None and len(roots) != 1:
            raise BadOption(f"{file} has {len(roots)} roots", "import it without --root")
        blocks = size_bytes = 0
        with app.node.ingest() as sink:
            for block in reader:
                sink.put_many([block])
                blocks += 1
                size_bytes += len(block.data)
                meter.advance(len(block.data))
            new_root = NewRoot(root_name, roots[0]) if root_name is not None else None
            report = sink.finish(roots if pin and new_root is None else [], new_root)
    for root in roots:
        app.output.note(
            f"{'root ' + root_name if root_name else 'pinned' if pin else 'read'} {root}"
        )
    app.output.record(
        {"roots": roots, "blocks": blocks, "bytes": size_bytes, "blocks_new": report.blocks_new},
        f"imported {blocks} blocks, {size_text(size_bytes)}; {report.blocks_new} were new",
    )


@contextmanager
def _opened(file: str) -> Iterator[tuple[IO[bytes], int | None]]:
    if file == "-":
        yield sys.stdin.buffer, None
        return
    path = Path(file)
    with path.open("rb") as source:
        yield source, path.stat().st_size or None
