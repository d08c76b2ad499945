"""Reads: from a key to its record, staged or on the device.

Invariants
- No lock is held during I/O. A segment is wiped or reused only after nothing in it is alive, so a
  record that is still in the index after it was read was read whole; the check costs one
  comparison unless a segment was wiped or opened meanwhile.
- A view pins its segment in the same step that finds its record in the index: from then on the
  segment's bytes stay as they are.
- A fingerprint is confirmed by the key in the record's header; a damaged header is BlockDamaged,
  never "not found". So is a value that was found rotten, by whatever is asked of its key.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from blkdev import format as fmt
from blkdev.catalog import Catalog
from blkdev.checksum import crc32
from blkdev.errors import BlockDamaged, KeyNotFound, StoreClosed
from blkdev.index import fingerprint_of
from blkdev.log import Log
from blkdev.pure.shards import SHARD_SHIFT
from blkdev.segment import Volume, refuse_newer

_READ_SIZE_MAX_BYTES = 64 << 10
"""Larger records are read through a map: one copy less."""
_HEAD = fmt.RECORD_HEADER.size_bytes
_ROTTEN = "its value fails its checksum"
_AHEAD_COUNT = 16
"""So many records are asked for while as many before them are being read."""
_PLACE = (1 << fmt.SIZE_SHIFT) - 1
"""The bits of a location that say where, in device order."""
_SEQUENCE_MAX = (1 << 64) - 1
T = TypeVar("T")


if TYPE_CHECKING:
    from blkdev._native import Finder
else:
    try:
        from blkdev._native import Finder
    except ImportError:
        Finder = None


class Compared(Protocol):
    """Keys whose values were compared with them. `turn` is called when `recent` has more than
    `recent_max`, from any thread.
    """

    recent: set[bytes]
    recent_max: int

    def turn(self) -> None: ...


MakeView = Callable[[bytes], AbstractContextManager[memoryview]]
CheckedView = Callable[[bytes, bytes, Compared, MakeView], AbstractContextManager[memoryview]]


def _python_looks(
    name: bytes, _key: bytes, _compared: Compared, make_slow: MakeView
) -> AbstractContextManager[memoryview]:
    """Where there is no helper, there is nothing quicker than what Python makes."""
    return make_slow(name)


class Found(NamedTuple):
    """A live record."""

    fingerprint: int
    location: int
    header: fmt.Row


class Reader:
    """The read side of one store. With `verify`, values are checked against their checksums."""

    def __init__(self, volume: Volume, catalog: Catalog, log: Log, *, verify: bool) -> None:
        self._volume = volume
        self._catalog = catalog
        self._index = catalog.index
        self._log = log
        self._verify = verify
        self.closed = False
        self.refresh()

    def refresh(self) -> None:
        """The geometry has changed. What both have lies where it did, for reads under way."""
        self._finder = self._new_finder()
        self.checked_view: CheckedView = (
            _python_looks if self._finder is None else self._finder.checked_view
        )
        """As `view`, for a value whose key may be its sha2-256 multihash. Called with a name, the
        key, what was `Compared` and `make_slow`. It is shown when the key is one of those that
        were compared, or is found to be the value's hash and becomes one. Whatever else there is
        to know, be it that there is no such key, `make_slow(name)` has to find out: its view is
        what is shown then. At the end the memoryview is released.
        """

    def find(self, key: bytes) -> Found | None:
        """The key's record. Raises BlockDamaged."""
        return self._search(key, self._found_at)

    @property
    def fault_count(self) -> int:
        """See `Device`."""
        return self._volume.device.fault_count

    def close(self) -> None:
        """Refuse reads from now on."""
        self.closed = True
        if self._finder is not None:
            self._finder.close()

    def value(self, key: bytes) -> bytes | None:
        """The key's value. Raises BlockDamaged."""
        finder = self._finder
        value = NotImplemented if finder is None else finder.value(key)
        return self._search(key, self._value_at) if value is NotImplemented else value

    def values(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        """(key, value) of all keys in the device's order. Raises BlockDamaged."""
        order = sorted((self._place_of(key), key) for key in keys)
        for at in range(0, len(order) + _AHEAD_COUNT, _AHEAD_COUNT):
            self._read_ahead(place for place, _ in order[at : at + _AHEAD_COUNT])
            for _, key in order[max(at - _AHEAD_COUNT, 0) : at]:
                yield key, self.value(key)

    def _place_of(self, key: bytes) -> tuple[int, int]:
        """Where on the device its record begins and ends, probably; (0, 0) when it has none."""
        fingerprint = self._fingerprint(key)
        with self._log.state_lock:
            locations = self._index.locations(fingerprint)
        if not locations or locations[0] in self._log.staged:
            return 0, 0
        begin = self._volume.device_offset(locations[0])
        return begin, begin + fmt.location_size(locations[0])

    def _read_ahead(self, places: Iterable[tuple[int, int]]) -> None:
        """Ask for these, in as few pieces as they lie in."""
        first = last = 0
        for begin, end in places:
            if begin > last:
                self._volume.device.read_ahead(first, last - first)
                first = begin
            last = max(last, end)
        self._volume.device.read_ahead(first, last - first)

    def has(self, key: bytes) -> bool:
        """Whether the key is there. Raises BlockDamaged, also when only its value was found so."""
        finder = self._finder
        has = NotImplemented if finder is None else finder.has(key)
        return self.find(key) is not None if has is NotImplemented else has

    def size(self, key: bytes) -> int | None:
        """The size of the key's value, damaged or not. Raises BlockDamaged."""
        size = NotImplemented if self._finder is None else self._finder.size(key)
        if size is not NotImplemented:
            return size
        found = self._search(key, self._found_at, rotten_too=True)
        return None if found is None else int(found.header.value_size_bytes)

    def part(
        self, key: bytes, start: int, length: int, *, damaged_too: bool = False
    ) -> bytes | None:
        """Bytes of the key's value, unchecked. Raises BlockDamaged."""
        finder = self._finder
        part = NotImplemented if finder is None else finder.part(key, start, length)
        if part is not NotImplemented:
            return part
        return self._search(
            key,
            lambda location, key, _: self._part_at(location, key, start, length),
            rotten_too=damaged_too,
        )

    def keys(self) -> Iterator[bytes]:
        """All keys; see `Store.keys`. What there is is settled by this call, not by iterating."""
        by_slot: dict[int, array[int]] = {}
        self._have(self._index.complete)
        with self._log.write_lock, self._log.state_lock:
            self._check_open()
            for entry in self._index.entries():
                by_slot.setdefault(fmt.location_slot(entry[1]), array("Q")).extend(entry)
        return self._keys_of([by_slot[slot] for slot in sorted(by_slot)])

    def _keys_of(self, snapshot: list[array[int]]) -> Iterator[bytes]:
        """Keys of (fingerprint, location) pairs; those that were moved or replaced are followed."""
        for slots in snapshot:
            pairs = iter(slots)
            ordered = sorted(zip(pairs, pairs, strict=True), key=lambda pair: pair[1] & _PLACE)
            for fingerprint, location in ordered:
                found = self.key_at(location)
                with self._log.state_lock:
                    now = self._index.locations(fingerprint)
                if location in now:
                    if found is not None:
                        yield found[1]
                    continue
                yield from self._keys_with(fingerprint)

    def _keys_with(self, fingerprint: int) -> list[bytes]:
        """Keys of the records that have the fingerprint now."""
        while True:
            with self._log.state_lock:
                now = self._index.locations(fingerprint)
            found = [self.key_at(location) for location in now]
            with self._log.state_lock:
                if now == self._index.locations(fingerprint):
                    return [item[1] for item in found if item]

    def dead(self, keys: list[bytes], before: int | None) -> dict[int, int]:
        """Location -> fingerprint of the records that deleting these keys kills."""
        dead: dict[int, int] = {}
        finder, salt = self._finder, self._volume.index_salt
        limit = _SEQUENCE_MAX if before is None else before
        for key in keys if limit >= 0 else ():
            location = NotImplemented if finder is None else finder.location(key, limit)
            if location is NotImplemented:
                dead |= self._dead_with(key, before)
            elif location is not None:
                dead[location] = fingerprint_of(key, salt)
        return dead

    def _dead_with(self, key: bytes, before: int | None) -> dict[int, int]:
        fingerprint = fingerprint_of(key, self._volume.index_salt)
        locations = self._index.locations(fingerprint)
        return {at: fingerprint for at in locations if self._may_delete(at, key, before)}

    def _may_delete(self, location: int, key: bytes, before: int | None) -> bool:
        found = self.key_at(location)
        if found is None:
            # Damaged, and its fingerprint is the key's: deleting it lets a good copy be put.
            return before is None
        return found[1] == key and (before is None or found[0].sequence <= before)

    def view(self, key: bytes) -> AbstractContextManager[memoryview]:
        return View(self, key) if self._finder is None else self._finder.view(key)

    def slow_view(self, key: bytes) -> View:
        """For the C helper, which knows only the plain case."""
        return View(self, key)

    def fail_view(self, key: bytes) -> None:
        """What a view shows is not what was stored. Raises BlockDamaged."""
        raise BlockDamaged(key, 0, "the device failed while it was read")

    def pinned_value(self, key: bytes) -> tuple[int, memoryview]:
        """(pinned location, value without a copy where the device can).

        Raises KeyNotFound, BlockDamaged.
        """
        while True:
            found = self._search(key, self._view_at)
            if found is None:
                raise KeyNotFound(key)
            fingerprint, location, value = found
            with self._log.state_lock:
                if self._index.pin(fingerprint, location):
                    return location, value

    def unpin(self, location: int) -> None:
        with self._log.state_lock:
            self._index.unpin(location)

    def record(self, location: int, key: bytes) -> bytes:
        """The value of a name's or journal's record, always checked. Raises BlockDamaged."""
        found = self._view_at(location, key, 0, verify=True)
        if found is None:
            raise self._damaged(location, key, "another record is in its place")
        return bytes(found[2])

    def key_at(self, location: int) -> tuple[fmt.Row, bytes] | None:
        """Header and key of whatever record is at `location`; None when damaged or unreadable."""
        staged = self._log.staged.get(location)
        try:
            packed = staged[0] if staged else self._read(location, _HEAD + fmt.KEY_SIZE_MAX_BYTES)
        except OSError:
            self._check_open()
            return None
        header = fmt.decode_record_head(packed, 0, self._volume.seed)
        return None if header is None else (header, packed[_HEAD : _HEAD + header.key_size_bytes])

    def _search(
        self,
        key: bytes,
        read: Callable[[int, bytes, int], T | None],
        *,
        rotten_too: bool = False,
    ) -> T | None:
        """What `read` makes of the key's record; `rotten_too` is for who needs its header only."""
        self._check_open()
        fingerprint = self._fingerprint(key)
        log = self._log
        while True:
            with log.state_lock:
                locations = self._index.locations(fingerprint)
                reuses = log.reuse_count
            if not locations:
                return None
            damage: BlockDamaged | None = None
            rotten: list[int] = []
            found: T | None = None
            for location in locations:
                try:
                    if location in self._catalog.damaged and not rotten_too:
                        raise self._damaged(location, key, _ROTTEN)  # one path
                    found = read(location, key, fingerprint)
                except BlockDamaged as error:
                    damage = error
                    if error.__cause__ is None:
                        # What only the device could not read may be readable later.
                        rotten.append(location)
                if found is not None:
                    break
            if found is None or reuses != log.reuse_count:
                with log.state_lock:
                    if locations != self._index.locations(fingerprint):
                        continue
            if found is None and damage is not None:
                with log.state_lock:
                    self._catalog.damaged.update(rotten)
                raise damage
            return found

    def _fingerprint(self, key: bytes) -> int:
        """The key's, when what the index knows of it is in memory."""
        fingerprint = fingerprint_of(key, self._volume.index_salt)
        shard = fingerprint >> SHARD_SHIFT
        if not self._index.is_there(shard):
            self._have(partial(self._index.fetch, shard))
        return fingerprint

    def _have(self, load: Callable[[], None]) -> None:
        """Load part of the index, before a lock is taken. Raises StoreClosed, also when the device
        was closed meanwhile, StoreDamaged, NewerFormat.
        """
        self._check_open()
        try:
            load()
        finally:
            self._check_open()

    def _found_at(self, location: int, key: bytes, fingerprint: int) -> Found | None:
        staged = self._log.staged.get(location)
        packed = staged[0] if staged else self._guarded(location, key, _HEAD + len(key))
        header = self._confirm(packed, location, key)
        return header and Found(fingerprint, location, header)

    def _value_at(self, location: int, key: bytes, fingerprint: int) -> bytes | None:
        faults = self.fault_count
        found = self._view_at(location, key, fingerprint)
        value = None if found is None else bytes(found[2])
        if faults != self.fault_count:
            raise self._damaged(location, key, "the device failed while it was read")
        return value

    def _view_at(
        self, location: int, key: bytes, fingerprint: int, *, verify: bool = False
    ) -> tuple[int, int, memoryview] | None:
        staged = self._log.staged.get(location)
        if staged:
            same = staged[0][_HEAD:] == key
            return (fingerprint, location, memoryview(staged[1]).toreadonly()) if same else None
        packed = memoryview(self._guarded(location, key, fmt.location_size(location)))
        header = self._confirm(packed, location, key)
        if header is None:
            return None
        value_at = _HEAD + header.key_size_bytes
        value = packed[value_at : value_at + header.value_size_bytes]
        if (verify or self._verify) and crc32(value) != header.value_checksum:
            raise self._damaged(location, key, _ROTTEN)
        return fingerprint, location, value

    def _part_at(self, location: int, key: bytes, start: int, length: int) -> bytes | None:
        staged = self._log.staged.get(location)
        if staged:
            same = staged[0][_HEAD:] == key
            return bytes(memoryview(staged[1])[start : start + length]) if same else None
        header = self._confirm(self._guarded(location, key, _HEAD + len(key)), location, key)
        if header is None:
            return None
        offset = self._volume.device_offset(location) + _HEAD + header.key_size_bytes + start
        length = min(length, header.value_size_bytes - start)
        try:
            return self._volume.device.read(offset, length) if length > 0 else b""
        except OSError as error:
            raise self._damaged(location, key, f"the device cannot read it: {error}") from error

    def _confirm(self, packed: bytes | memoryview, location: int, key: bytes) -> fmt.Row | None:
        """The header if the record is the key's, None if another key's."""
        header = fmt.decode_record_head(packed, 0, self._volume.seed)
        if header is not None and packed[_HEAD : _HEAD + header.key_size_bytes] == key:
            refuse_newer(self._volume, header)
            return header
        # Another key's header may be longer than what was read of it.
        if header is None and self.key_at(location) is None:
            raise self._damaged(location, key, "its header is damaged")
        return None

    def _guarded(self, location: int, key: bytes, length: int) -> bytes | memoryview:
        try:
            if length <= _READ_SIZE_MAX_BYTES:
                return self._read(location, length)
            return self._volume.device.view(self._volume.device_offset(location), length)
        except OSError as error:
            raise self._damaged(location, key, f"the device cannot read it: {error}") from error

    def _read(self, location: int, length: int) -> bytes:
        length = min(length, fmt.location_size(location))
        return self._volume.device.read(self._volume.device_offset(location), length)

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosed

    def _damaged(self, location: int, key: bytes, why: str) -> BlockDamaged:
        # A read that a close overtook says so: nothing is damaged.
        self._check_open()
        return BlockDamaged(key, self._volume.device_offset(location), why)

    def _new_finder(self) -> Finder | None:
        """The short way to a record in C, where the device is a file and the helper was built."""
        device, geometry = self._volume.device, self._volume.geometry
        if Finder is None or device.descriptor is None or device.maps is None:
            return None
        before = geometry.segments_before_middle
        return Finder(
            self,
            self._index,
            self._log,
            self._catalog,
            device.maps,
            device.descriptor,
            self._verify,
            self._volume.index_salt,
            self._volume.seed,
            geometry.segment_offset(0),
            geometry.segment_size_bytes,
            before,
            geometry.segment_offset(before) - before * geometry.segment_size_bytes,
        )


class View:
    """Context manager around one value; the memoryview is valid inside the `with` only.

    Raises BlockDamaged at its end when what it showed was not what was stored. Twin of
    `native/view.c`.
    """

    def __init__(self, reader: Reader, key: bytes) -> None:
        self._reader = reader
        self._key = key
        self._location = 0

    def __enter__(self) -> memoryview:
        if self._location:
            raise RuntimeError("this view is open")
        self._faults = self._reader.fault_count
        self._location, value = self._reader.pinned_value(self._key)
        return value

    def __exit__(self, *_raised: object) -> None:
        location, self._location = self._location, 0
        self._reader.unpin(location)
        if self._faults != self._reader.fault_count:
            self._reader.fail_view(self._key)
