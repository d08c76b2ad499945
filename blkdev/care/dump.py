"""Any structure of a store, for a person to look at: read only, and also of a damaged store.

Every function gives items: a kind of structure, where it is on the device, what its fields say.
What is damaged is an item too, with `damaged` saying so and whatever can still be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from blkdev import format as fmt
from blkdev import superblock
from blkdev.bad_slots import bad_slots
from blkdev.care.walk import (
    KIND_NAMES,
    Extent,
    Verdict,
    inspect,
    live_in,
    small_records,
    walk,
)
from blkdev.catalog import Catalog
from blkdev.device import Device
from blkdev.errors import NoSuchPlace, StoreError
from blkdev.index import fingerprint_of
from blkdev.recovery.past_damage import group_headers
from blkdev.recovery.recover import recover
from blkdev.segment import (
    FIRST_GROUP_OFFSET,
    Identity,
    Record,
    Volume,
    identify,
    read_summary,
)

_SEGMENT_KINDS = {
    fmt.SEGMENT_LOG: "log",
    fmt.SEGMENT_CHECKPOINT: "checkpoint",
    fmt.SEGMENT_FREE: "free",
}
_VALUE_SHOWN_BYTES = 32
_HIDDEN = ("reserved", "bad_slots", "first_line", "magic", "checksum", "index_salt")


class Item(NamedTuple):
    """One structure. Values of `fields` are text, numbers, truth values or lists of those."""

    kind: str
    device_offset: int
    damaged: str
    fields: dict[str, Any]


def superblocks(device: Device) -> Iterator[Item]:
    """All four copies where they should be."""
    try:
        offsets: tuple[int, ...] = superblock.Geometry.of(superblock.load(device)).copy_offsets
    except StoreError:
        unit = fmt.ERASE_UNIT_SIZE_BYTES
        size = device.size_bytes & -unit
        offsets = (0, unit, device.size_bytes // 2 & -unit, max(0, size - unit))
    for number, offset in enumerate(offsets):
        try:
            page = device.read(offset, fmt.PAGE_SIZE_BYTES)
        except OSError as error:
            yield Item("superblock", offset, f"the device cannot read it: {error}", {})
            continue
        block = fmt.SUPERBLOCK.open(page)
        if block is None and not superblock.read_copy(device, offset)[1]:
            yield Item("superblock", offset, "nothing of a store is here", {"copy": number})
            continue
        damaged = "" if block is not None else "it fails its checksum; as found:"
        row = block or fmt.SUPERBLOCK.unpack(page)
        fields = _plain(row)
        fields["bad_slots"] = [
            f"{slot} retired" if retired else str(slot) for slot, retired in bad_slots(row).items()
        ]
        yield Item("superblock", offset, damaged, fields)


class Dumper:
    """Looks at one store. `device` may be in use: what is shown is then of one moment or another.

    Raises, when made, what `superblock.load` raises: without a superblock nothing can be found.
    """

    def __init__(self, device: Device) -> None:
        self._block = superblock.load(device)
        self._volume = Volume.of(device, self._block)
        self._bad = bad_slots(self._block)

    def segments(self) -> Iterator[Item]:
        """One item for each segment."""
        for slot in range(self._volume.geometry.segment_count):
            yield self._segment_item(slot, identify(self._volume, slot))

    def _segment_item(self, slot: int, identity: Identity) -> Item:
        fields: dict[str, Any] = {"slot": slot, "holds": _SEGMENT_KINDS.get(identity.kind, "?")}
        if identity.kind != fmt.SEGMENT_FREE:
            fields["sequence"] = identity.sequence
            fields["first_group"] = identity.first_group
        if identity.footer is not None:
            fields["records"] = identity.footer.entry_count
            fields["end"] = identity.footer.groups_end
        if slot in self._bad:
            fields["bad"] = "retired" if self._bad[slot] else "has sectors that cannot be read"
        damaged = "" if identity.whole else "its header is damaged"
        return Item("segment", self._volume.geometry.segment_offset(slot), damaged, fields)

    def segment(self, slot: int) -> Iterator[Item]:
        """Header, groups' records and summary of one segment. Raises NoSuchPlace."""
        if not 0 <= slot < self._volume.geometry.segment_count:
            count = self._volume.geometry.segment_count
            raise NoSuchPlace(f"segment {slot}: the store has segments 0 to {count - 1}")
        identity = identify(self._volume, slot)
        yield self._segment_item(slot, identity)
        if identity.kind != fmt.SEGMENT_LOG:
            return
        begin, footer = self._volume.geometry.segment_offset(slot), identity.footer
        end = self._end(slot, identity.sequence) if footer is None else footer.groups_end
        extent = Extent(slot, identity.sequence, end, sealed=footer is not None)
        for found in walk(self._volume, extent):
            if isinstance(found, Record):
                yield self._record_item(found)
            else:
                yield Item("damage", begin + found.offset, found.what, {})
        if footer is not None:
            whole = read_summary(self._volume, slot, footer) is not None
            at = begin + self._volume.geometry.segment_size_bytes - fmt.SEGMENT_FOOTER.size_bytes
            yield Item("footer", at, "" if whole else "its summary is damaged", _plain(footer))

    def _end(self, slot: int, sequence: int) -> int:
        """Where the last group ends of a segment whose footer does not say so."""
        end = FIRST_GROUP_OFFSET
        for offset, group in group_headers(self._volume, slot, sequence):
            end = offset + fmt.aligned(group.size_bytes)
        return end

    def _record_item(self, record: Record) -> Item:
        header = record.header
        fields: dict[str, Any] = {"record": KIND_NAMES[header.kind], "sequence": header.sequence}
        fields |= _key_fields(header.kind, record.key)
        fields["value_bytes"] = header.value_size_bytes
        if header.kind == fmt.KIND_TOMBSTONES and record.is_whole:
            fields["dead"] = [
                f"offset {self._place(location)} in segment of sequence {sequence}"
                for _, location, sequence in fmt.tombstones(record.value)
            ]
        elif record.value:
            fields["value"] = _text(record.value[:_VALUE_SHOWN_BYTES])
        damaged = "" if record.is_whole else "its value fails its checksum"
        return Item("record", self._volume.device_offset(record.location), damaged, fields)

    def _place(self, location: int) -> int | str:
        slot = fmt.location_slot(location)
        known = slot < self._volume.geometry.segment_count
        return self._volume.device_offset(location) if known else "?"

    def record_at(self, device_offset: int) -> Iterator[Item]:
        """The record whose header, key or value has that byte, and the segment it is in."""
        geometry = self._volume.geometry
        size = geometry.segment_size_bytes
        for slot in range(geometry.segment_count):
            begin = geometry.segment_offset(slot)
            if not begin <= device_offset < begin + size:
                continue
            yield from (item for item in self.segment(slot) if _covers(item, device_offset))
            return
        raise NoSuchPlace(f"device offset {device_offset} is in no segment")

    def record_of(self, key: bytes) -> Iterator[Item]:
        """The live record of a block or a name. Nothing when there is none."""
        catalog = self._catalog()
        fingerprint = fingerprint_of(key, self._volume.index_salt)
        slots = {fmt.location_slot(at) for at in catalog.index.locations(fingerprint)}
        if key in catalog.names:
            slots.add(fmt.location_slot(catalog.names[key].location))
        for live in live_in(catalog, slots) if slots else ():
            if live.key == key or live.fingerprint == fingerprint:
                verdict = inspect(self._volume, live)
                if verdict.key in (key, b""):
                    yield self._judged(live.location, KIND_NAMES[live.kind], verdict)

    def _judged(self, location: int, kind: str, verdict: Verdict) -> Item:
        if verdict.record is not None:
            return self._record_item(verdict.record)
        fields = {"record": kind, "key": _text(verdict.key)}
        return Item("record", self._volume.device_offset(location), verdict.problem, fields)

    def checkpoint(self) -> Iterator[Item]:
        """Head of the checkpoint that the superblock names. Nothing when it names none."""
        slot = self._block.checkpoint_slot
        if slot >= self._volume.geometry.segment_count:
            return
        packed = self._volume.try_read(slot, fmt.PAGE_SIZE_BYTES, fmt.CHECKPOINT_HEAD.size_bytes)
        head = fmt.CHECKPOINT_HEAD.open(packed, 0, self._volume.seed)
        at = self._volume.geometry.segment_offset(slot) + fmt.PAGE_SIZE_BYTES
        if head is None:
            yield Item("checkpoint", at, "it is damaged, which costs time and no data", {})
        else:
            yield Item("checkpoint", at, "", {"slot": slot, **_plain(head)})

    def names(self) -> Iterator[Item]:
        """All names and removals that are kept, with the beginning of their values."""
        yield from self._small((fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL))

    def journals(self) -> Iterator[Item]:
        """The journals' records and trims."""
        yield from self._small((fmt.KIND_JOURNAL, fmt.KIND_JOURNAL_TRIM))

    def _small(self, kinds: tuple[int, ...]) -> Iterator[Item]:
        lives = [live for live in small_records(self._catalog()) if live.kind in kinds]
        for live in sorted(lives, key=lambda live: (live.key, live.sequence)):
            verdict = inspect(self._volume, live)
            item = self._judged(live.location, KIND_NAMES[live.kind], verdict)
            item.fields.update(_key_fields(live.kind, live.key))
            yield item

    def _catalog(self) -> Catalog:
        return recover(self._volume, self._block).catalog


def _covers(item: Item, device_offset: int) -> bool:
    if item.kind == "segment":
        return True
    if item.kind != "record":
        return False
    size = fmt.record_size(item.fields.get("key_bytes", 0), item.fields["value_bytes"])
    return item.device_offset <= device_offset < item.device_offset + size


def _key_fields(kind: int, key: bytes) -> dict[str, Any]:
    if kind == fmt.KIND_BLOCK:
        return {"key": key.hex(), "key_bytes": len(key)}
    if kind in (fmt.KIND_NAME, fmt.KIND_NAME_REMOVAL):
        return {"name": _text(key), "key_bytes": len(key)}
    if kind in (fmt.KIND_JOURNAL, fmt.KIND_JOURNAL_TRIM):
        return {"stream": int.from_bytes(key, "little"), "key_bytes": len(key)}
    return {}


def _plain(row: fmt.Row) -> dict[str, Any]:
    """A row's fields for a person: text where bytes are text, hexadecimal digits where not."""
    return {
        name: _text(value.rstrip(b"\0")) if isinstance(value, bytes) else value
        for name, value in row._asdict().items()
        if name not in _HIDDEN
    }


def _text(data: bytes) -> str:
    """Printable ASCII as it is, anything else as hexadecimal digits."""
    text = data.decode("ascii", "replace")
    return text if data.isascii() and text.isprintable() else data.hex()
