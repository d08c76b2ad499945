"""`ipfs-mfs add`: files, directories and standard input into the store, as Kubo's `ipfs add`."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ipfs_mfs.app import App, name_text
from ipfs_mfs.cli import KuboCommand, kubo_flag, verb
from ipfs_mfs.config import DEFAULT_PROFILE

if TYPE_CHECKING:
    from ipfs_mfs.addoptions import AddOptions
    from ipfs_mfs.importer import Event
    from ipld.block import Block


class _Octal(click.ParamType[int]):
    name = "octal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return int(value, 8)
        except ValueError:
            return self.fail(f"{value!r} is not an octal number", param, ctx)


@verb(
    "add",
    cls=KuboCommand,
    examples="ipfs-mfs add -r ./photos\n"
    "ipfs-mfs add -n -Q -r ./photos                  # only what the CID would be\n"
    "tar c ./src | ipfs-mfs add -Q --profile unixfs-v0-2015 -",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...|-")
@click.option("-r", "--recursive", is_flag=True, help="Take directories with all they hold.")
@click.option("-Q", "--quieter", is_flag=True, help="Print the last CID only.")
@click.option("-n", "--only-hash", is_flag=True, help="Store nothing; open no store.")
@kubo_flag("--pin", default="true", help="Keep the result from gc.")
@click.option("-w", "--wrap-with-directory", "wrap", is_flag=True, help="Put all into a directory.")
@click.option("-H", "--hidden", is_flag=True, help="Take names that begin with a dot, too.")
@click.option("--dereference-symlinks", is_flag=True, help="Take what symbolic links point to.")
@kubo_flag("--empty-dirs", default="true", help="Take empty directories, too.")
@click.option("--profile", metavar="NAME", help="unixfs-v1-2025 (default) or unixfs-v0-2015.")
@click.option("--cid-version", type=click.IntRange(0, 1), help="1 means raw leaves, too.")
@kubo_flag("--raw-leaves", help="File content in blocks without a wrapper.")
@click.option("-s", "--chunker", metavar="size-N", help="Bytes of a chunk.")
@click.option("--hash", "hash_function", metavar="NAME", help="sha2-256, sha2-512, blake3, …")
@kubo_flag("-t", "--trickle", help="The layout for streaming.")
@click.option("--max-file-links", type=int, metavar="N", help="Links of a file's node.")
@click.option("--max-directory-links", type=int, metavar="N", help="Above it, a HAMT; 0: never.")
@click.option("--max-hamt-fanout", type=int, metavar="N", help="Slots of a HAMT's node.")
@click.option("--hamt-threshold", "hamt_threshold_bytes", type=int, metavar="BYTES")
@click.option("--hamt-size-estimation", type=click.Choice(["links", "block", "disabled"]))
@kubo_flag("--inline", help="Small blocks become part of the CID.")
@click.option("--inline-limit", "inline_limit_bytes", type=int, metavar="N")
@click.option("--preserve-mode", is_flag=True, help="Store permissions (UnixFS 1.5).")
@click.option("--preserve-mtime", is_flag=True, help="Store modification times (UnixFS 1.5).")
@click.option("--mode", type=_Octal(), metavar="OCTAL", help="Store these permissions.")
@click.option("--mtime", "mtime_s", type=int, metavar="SECONDS", help="Store this time.")
@click.option("--mtime-nsecs", "mtime_ns", type=int, metavar="N", help="Its nanoseconds.")
def command(
    app: App, paths: Sequence[str], quieter: bool, only_hash: bool, pin: bool, **flags: Any
) -> None:
    """Prints `added CID NAME` for everything, what was asked for last; with -q the CIDs alone. The
    flags mean what they mean in Kubo and give the same CIDs. The line of an argument itself appears
    when all of it is durable and pinned."""
    from ipfs_mfs.addoptions import AddOptions

    if flags["profile"] is None and app.config.profile != DEFAULT_PROFILE:
        flags["profile"] = app.config.profile
    options = AddOptions(**flags)
    printer = _Printer(app, quieter)
    if only_hash:
        _import(app, paths, options, lambda _: None, printer)
    else:
        with app.node.ingest() as sink:
            roots = _import(app, paths, options, sink.put_many, printer)
            sink.finish(roots if pin else [])
    printer.finish()


def _import(
    app: App,
    paths: Sequence[str],
    options: "AddOptions",
    put_many: "Callable[[list[Block]], object]",
    printer: "_Printer",
) -> list[str]:
    """Runs the importer; returns the CIDs of what was asked for."""
    from ipfs_mfs.importer import Importer, content_size_bytes
    from ipld.cid import to_text

    total = None if app.output.quiet or app.output.as_json else content_size_bytes(paths, options)
    roots = []
    with app.output.meter("add", total) as meter:

        def put_and_count(blocks: "list[Block]") -> None:
            put_many(blocks)
            meter.advance(sum(len(block.data) for block in blocks))

        for event in Importer(options, put_and_count).add(paths, sys.stdin.buffer):
            if event.cid is not None:
                printer.take(event, to_text(event.cid))
            if event.is_root and event.cid is not None:
                roots.append(to_text(event.cid))
    return roots


class _Printer:
    """Lines in the order of the events. From the first root on they wait for `finish`, because a
    root that is printed is one that is durable and pinned."""

    def __init__(self, app: App, quieter: bool) -> None:
        self._app = app
        self._quieter = quieter
        self._waiting: list[tuple[Event, str]] = []

    def take(self, event: "Event", cid: str) -> None:
        if self._quieter:
            self._waiting = [(event, cid)]
        elif self._waiting or event.is_root:
            self._waiting.append((event, cid))
        else:
            self._print(event, cid)

    def finish(self) -> None:
        for event, cid in self._waiting:
            self._print(event, cid)

    def _print(self, event: "Event", cid: str) -> None:
        if self._quieter or self._app.output.quiet:
            text = cid
        else:
            text = f"added {cid} {name_text(event.name)}".rstrip()
        size_bytes = event.size_bytes
        record = {"cid": cid, "name": event.name, "size_bytes": size_bytes, "root": event.is_root}
        self._app.output.record(record, text)
