"""The index's tables in Python: fingerprint of a key -> location of its record, 16 bytes a slot.

Twin of `../native/index.c`: the same entries give the same slots.

Each shard is one array of sorted open addressing: a slot's home rises with its fingerprint, an
entry is never left of its home, and entries lie in ascending order with gaps. So a miss stops at
the first larger fingerprint, growing is one pass in order, and the array is its own image in a
checkpoint.

Invariants
- Empty slots hold (NO_FINGERPRINT, 0), so `< fingerprint` is the only test while probing.
- At most LOAD_MAX of a shard is used and growth is by a seventh: 20 to 24 bytes per key, once there
  are a few for each shard.
- Fingerprints may collide; whoever looks up confirms with the key in the record's header.
- A shard that is put off has its size and no slots: an empty array. `fetch` loads it as soon as
  anything is asked of it.
- Not locked: the caller holds the store's state lock.
"""

from __future__ import annotations

from array import array
from collections import Counter
from struct import Struct
from zlib import crc32

from blkdev.format import NO_FINGERPRINT, SUMMARY_ENTRY, BytesLike, location_slot

SHARD_COUNT = 256
SHARD_SHIFT = 56
_WITHIN = (1 << SHARD_SHIFT) - 1
_HOME_SHIFT = 24
_HOME_BITS = 32
_MASK = (1 << 64) - 1
_SPREAD_TAIL = 0x9E37_79B9_7F4A_7C15
_SPREAD_SUM = 0xD6E8_FEB8_6659_FD93
_U64 = Struct("<Q").unpack_from
_EMPTY = array("Q", (NO_FINGERPRINT, 0))
_LOAD_MAX = 0.8
_HOME_COUNT_MIN = 2


def fingerprint_of(key: bytes, salt: int) -> int:
    """64 bits of `key`; the last 8 bytes of a digest are random already, the sum adds the rest.

    `salt` is secret per store: keys cannot be chosen so that their fingerprints cluster.
    """
    tail = _U64(key, len(key) - 8)[0] if len(key) >= 8 else int.from_bytes(key, "little")
    mixed = ((tail ^ salt) + crc32(key) * _SPREAD_SUM) * _SPREAD_TAIL & _MASK
    return mixed if mixed != NO_FINGERPRINT else 0


def slot_count(home_count: int) -> int:
    """Slots of a shard: those past the last home are there so that a run never wraps round."""
    return home_count + 6 + (home_count >> 6)


class Shards:
    """Fingerprint -> locations; a multimap because fingerprints may collide."""

    def __init__(self) -> None:
        self.count = 0
        self._homes = [_HOME_COUNT_MIN] * SHARD_COUNT
        self._used = [0] * SHARD_COUNT
        empty = _EMPTY * slot_count(_HOME_COUNT_MIN)
        self._tables = [empty[:] for _ in range(SHARD_COUNT)]
        self.size_bytes = SHARD_COUNT * len(empty) * empty.itemsize
        self._pins: Counter[int] = Counter()

    def locations(self, fingerprint: int) -> tuple[int, ...]:
        """Locations of all records with this fingerprint; nearly always none or one."""
        shard = fingerprint >> SHARD_SHIFT
        table = self._tables[shard] or self._fetched(shard)
        at = ((fingerprint >> _HOME_SHIFT & 0xFFFF_FFFF) * self._homes[shard] >> _HOME_BITS) << 1
        while table[at] < fingerprint:
            at += 2
        if table[at] != fingerprint:
            return ()
        if table[at + 2] != fingerprint:
            return (table[at + 1],)
        found = []
        while table[at] == fingerprint:
            found.append(table[at + 1])
            at += 2
        return tuple(found)

    def has(self, fingerprint: int, location: int) -> bool:
        """Whether exactly this record is alive."""
        return location in self.locations(fingerprint)

    def add(self, fingerprint: int, location: int) -> None:
        shard = fingerprint >> SHARD_SHIFT
        if not self._tables[shard]:
            self.fetch(shard)
        if self._used[shard] >= self._homes[shard] * _LOAD_MAX:
            self._grow(shard)
        while not self._place(fingerprint, location):
            self._grow(shard)
        self._used[shard] += 1
        self.count += 1

    def replace(self, fingerprint: int, old: int, new: int) -> None:
        """Point the entry at `new`; it must be there."""
        at = self._find(fingerprint, old)
        assert at is not None
        self._tables[fingerprint >> SHARD_SHIFT][at + 1] = new

    def remove(self, fingerprint: int, location: int) -> bool:
        """False when there is no such entry."""
        at = self._find(fingerprint, location)
        if at is None:
            return False
        shard = fingerprint >> SHARD_SHIFT
        table, homes = self._tables[shard], self._homes[shard]
        end = at + 2
        while table[end] != NO_FINGERPRINT and (self._home(table[end], homes) << 1) < end:
            end += 2
        table[at : end - 2] = table[at + 2 : end]
        table[end - 2 : end] = _EMPTY
        self._used[shard] -= 1
        self.count -= 1
        return True

    def pin(self, fingerprint: int, location: int) -> bool:
        """If this record is alive, keep its segment's bytes as they are until `unpin`."""
        there = self.has(fingerprint, location)
        self._pins[location_slot(location)] += there
        return there

    def unpin(self, location: int) -> None:
        """Take back one `pin` of a record of that segment."""
        assert self._pins[location_slot(location)] > 0
        self._pins[location_slot(location)] -= 1

    def pin_count(self, slot: int) -> int:
        return self._pins[slot]

    def shard(self, number: int) -> tuple[int, int, bytes]:
        """A copy of one shard: its homes, used slots, and the slots."""
        slots = (self._tables[number] or self._fetched(number)).tobytes()
        return self._homes[number], self._used[number], slots

    def is_there(self, number: int) -> bool:
        """Whether a shard was not put off, or is loaded since."""
        return bool(self._tables[number])

    def fetch(self, number: int) -> None:
        """Load a shard that was put off, which is for whoever puts any off to say how."""
        raise NotImplementedError

    def _fetched(self, number: int) -> array[int]:
        self.fetch(number)
        return self._tables[number]

    def put_off(self, number: int, homes: int, used: int) -> None:
        """Count a shard of this size, which `fetch` loads. Raises ValueError."""
        self._set(number, homes, used, array("Q"))

    def load(self, number: int, homes: int, used: int, slots: BytesLike) -> None:
        """Set one shard; the inverse of `shard`. Raises ValueError for what cannot be one."""
        table = array("Q")
        table.frombytes(slots[: len(slots) & -16])
        fits = homes >= _HOME_COUNT_MIN and len(slots) == 16 * slot_count(homes)
        if not (fits and table[-2] == NO_FINGERPRINT):
            raise ValueError("not the image of a shard")
        self._set(number, homes, used, table)

    def _set(self, number: int, homes: int, used: int, table: array[int]) -> None:
        if not (0 <= number < SHARD_COUNT and homes >= _HOME_COUNT_MIN and 0 <= used <= homes):
            raise ValueError("no such shard")
        more = slot_count(homes) - slot_count(self._homes[number])
        more_bytes, more_used = more * SUMMARY_ENTRY.size_bytes, used - self._used[number]
        # Nothing is called while these are changed, so no thread that adds to another shard gets
        # in between; and the slots come last, because they say that the shard is there.
        self.size_bytes += more_bytes
        self.count += more_used
        self._homes[number], self._used[number], self._tables[number] = homes, used, table

    @staticmethod
    def _home(fingerprint: int, homes: int) -> int:
        return (fingerprint >> _HOME_SHIFT & 0xFFFF_FFFF) * homes >> _HOME_BITS

    def _find(self, fingerprint: int, location: int) -> int | None:
        table, at = self._first(fingerprint)
        while table[at] == fingerprint and table[at + 1] != location:
            at += 2
        return at if table[at] == fingerprint else None

    def _first(self, fingerprint: int) -> tuple[array[int], int]:
        """(table, place of the first entry that is not smaller)."""
        shard = fingerprint >> SHARD_SHIFT
        table = self._tables[shard] or self._fetched(shard)
        at = self._home(fingerprint, self._homes[shard]) << 1
        while table[at] < fingerprint:
            at += 2
        return table, at

    def _place(self, fingerprint: int, location: int) -> bool:
        """False when the run reaches the spare end: one slot there always stays empty."""
        table, at = self._first(fingerprint)
        end = at
        while table[end] != NO_FINGERPRINT:
            end += 2
        if end + 4 > len(table):
            return False
        table[at + 2 : end + 2] = table[at:end]
        table[at] = fingerprint
        table[at + 1] = location
        return True

    def _grow(self, shard: int) -> None:
        filled, homes = None, self._homes[shard]
        while filled is None:
            homes = homes * 8 // 7 + 1
            filled = self._filled(homes, self._tables[shard])
        self.size_bytes += (len(filled) - len(self._tables[shard])) * filled.itemsize
        self._homes[shard], self._tables[shard] = homes, filled

    @staticmethod
    def _filled(homes: int, old: array[int]) -> array[int] | None:
        """A larger table of the entries of `old`, which are in order; None when they do not fit."""
        table = _EMPTY * slot_count(homes)
        last = len(table) - 4
        free = 0
        slots = iter(old)
        for fingerprint, location in zip(slots, slots, strict=True):
            if location:
                at = ((fingerprint >> _HOME_SHIFT & 0xFFFF_FFFF) * homes >> _HOME_BITS) << 1
                at = max(at, free)
                if at > last - 2:
                    return None
                table[at] = fingerprint
                table[at + 1] = location
                free = at + 2
        return table


assert SUMMARY_ENTRY.size_bytes == 2 * _EMPTY.itemsize
assert _WITHIN >> _HOME_SHIFT == (1 << _HOME_BITS) - 1
