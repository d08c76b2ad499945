"""`ipfs-mfs dump`: what is on the device, for a person."""

import json
from typing import Any

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb

_ON_LINES_OF_THEIR_OWN = ("superblock", "checkpoint", "footer")


@verb(
    "dump",
    examples="ipfs-mfs dump\n"
    "ipfs-mfs dump segments\n"
    "ipfs-mfs dump segment 3\n"
    "ipfs-mfs dump record bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku\n"
    "ipfs-mfs dump record 8392704          # the one at that offset of the device\n"
    "ipfs-mfs dump names",
)
@click.argument("what", default="superblock", metavar="[WHAT]")
@click.argument("argument", default="", metavar="[ARGUMENT]")
def command(app: App, what: str, argument: str) -> None:
    """WHAT is superblock (all copies, the default), segments, segment NUMBER, record CID, record
    NAME, record KEY, record DEVICE-OFFSET, checkpoint, names or journals. Reads only, and shows of
    what is damaged whatever can still be told. docs/formats/blkdev.md says what the fields mean."""
    count = 0
    for item in app.care().dump(what, argument):
        count += 1
        fields = json.loads(item.fields)
        record = {
            "kind": item.kind,
            "device_offset": item.device_offset,
            "damaged": item.damaged,
            "fields": fields,
        }
        app.output.record(record, _text(item.kind, item.device_offset, item.damaged, fields))
    if not count:
        app.output.note("nothing of that kind is here")


def _text(kind: str, device_offset: int, damaged: str, fields: dict[str, Any]) -> str:
    head = f"{kind} at {device_offset}"
    if damaged:
        head += f": DAMAGED: {damaged}"
    if kind in _ON_LINES_OF_THEIR_OWN:
        return "\n".join(
            [head, *(f"  {name:22} {_value(value)}" for name, value in fields.items())]
        )
    pairs = [f"{name} {_value(value)}" for name, value in fields.items()]
    return f"{head}: {', '.join(pairs)}" if pairs else head


def _value(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
