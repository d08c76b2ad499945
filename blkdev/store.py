"""The store: opaque keys and values, names, journals on one device. The engine's public class.

    put_many -> visible at once -> commit -> survives a power cut

Locks: see blkdev/log.py. In addition `_maintenance_lock`, outermost, lets one compaction,
checkpoint or check run at a time.

Invariants
- `put_many` never writes a key that is stored; `apply` writes it only to change its value.
- What a reader gets is one record as it was put. A reader takes no lock during I/O; afterwards it
  looks whether a segment was reused meanwhile and, if so, whether its record is still in place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice

from blkdev import batch, process, superblock
from blkdev import format as fmt
from blkdev.care import formatting
from blkdev.care.check import Checker, CheckReport, ProgressCallback
from blkdev.care.repair import Repairer, RepairReport
from blkdev.care.resize import VIEWS_WAIT_S, Progress, Resizer, ResizeReport
from blkdev.care.scrub import Pacer, Scrubber, ScrubReport, condemn
from blkdev.checkpoint import Checkpointer
from blkdev.checksum import crc32
from blkdev.compaction.compact import Compactor, CompactReport
from blkdev.device import Device
from blkdev.draft import Draft, runs, tombstones_of
from blkdev.errors import (
    BlockDamaged,
    KeyNotFound,
    KeyTooLarge,
    StoreClosed,
    StoreDamaged,
    StoreFull,
    StoreReadOnly,
    ValueTooLarge,
)
from blkdev.index import fingerprint_of
from blkdev.ledger import JournalStream, Ledger, frozen
from blkdev.log import DATA, RELEASE, Log
from blkdev.reader import Reader
from blkdev.recovery.recover import Recovered, Report, recover
from blkdev.segment import Volume
from blkdev.stats import StoreStats, measure


class Store:
    """One open store. All methods are safe to call from many threads. Those that look for blocks
    raise StoreDamaged where part of the index and of the log is damaged, so that nobody knows what
    is there; opening the store again reads all of the log."""

    def __init__(
        self, device: Device, block: fmt.Row, recovered: Recovered, *, verify_reads: bool
    ) -> None:
        """Use `Store.open`."""
        self.device = device
        self.uuid = block.uuid
        self.label = block.label.rstrip(b"\0").decode("utf-8", "replace")
        self.read_only = device.read_only
        self.recovery: Report = recovered.report
        volume, catalog = Volume.of(device, block), recovered.catalog
        self._volume, self._catalog = volume, catalog
        self._log = Log(volume, catalog, recovered.tail, block.epoch)
        self._reader = Reader(volume, catalog, self._log, verify=verify_reads)
        self.reader = self._reader
        value_max = volume.geometry.value_size_max_bytes
        self._ledger = Ledger(catalog, self._log, self._reader, self._with_room, value_max)
        replayed = recovered.report.bytes_replayed
        self._checkpointer = Checkpointer(
            volume, catalog, self._log, block, recovered.checkpoint_slots, replayed
        )
        self._parts = (volume, catalog, self._log, self._checkpointer)
        self._compactor = Compactor(*self._parts)
        self._maintenance_lock = threading.Lock()
        self._closed = False
        process.watch(self)

    @classmethod
    def format(
        cls,
        device: Device,
        *,
        segment_size_bytes: int | None = None,
        label: str = "",
        force: bool = False,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Make an empty store. Existing data is refused unless `force`.

        The default segment size is 16 MiB, less where the device would hold under 64 of them
        (but at least 4 MiB). `entropy(n)` gives the random bytes of the store's identity.
        Raises StoreExists, ForeignSignature, DeviceTooSmall, InvalidGeometry, DeviceReadOnly,
        KeyTooLarge (label), OSError.
        """
        formatting.format_device(device, segment_size_bytes, label, entropy, force=force)

    @classmethod
    def open(cls, device: Device, *, read_only: bool = False, verify_reads: bool = True) -> Store:
        """Recover and open. `verify_reads=False` leaves the check of values to a caller that
        checks them itself (their keys being hashes).

        Raises NotAStore, SuperblockDamaged, NewerFormat, DeviceTooSmall, DeviceReadOnly,
        StoreDamaged (the device cannot read enough), StoreReadOnly (it fails while being prepared).
        """
        block = superblock.load(device)
        if not read_only:
            superblock.check_writable(device, block)
        # Who only reads may be looking at a damaged store, and wants to know all of it at once.
        recovered = recover(Volume.of(device, block), block, lazily=not read_only)
        if not read_only and recovered.is_cut_short:
            raise StoreDamaged(
                f"{device.name}: what lies behind segments {recovered.report.damaged_slots} cannot "
                "be reached, and writing would destroy it (look at the disk; open it read-only)"
            )
        block = block._replace(epoch=recovered.epoch + 1, clean=0, boot_id=process.boot_id())
        store = cls(device, block, recovered, verify_reads=verify_reads)
        store.read_only = read_only
        if not read_only:
            store._begin(recovered)
        return store

    def _begin(self, recovered: Recovered) -> None:
        """Make recovery's findings durable before anything new is written."""
        log = self._log
        # After a killed process the tail may have been read from the system's cache: from here on
        # headers say that it is durable.
        log.sync()
        if recovered.stale_footer_slot is not None:
            log.wipe_footer(recovered.stale_footer_slot)
        log.clear(recovered.leftover_slots)
        log.wipe(recovered.garbage_slots)
        for full in recovered.unsealed:
            log.seal_segment(full.segment, full.entries, full.last_group, log.next_sequence)
        for segment, first_group in recovered.damaged_headers:
            log.write_header(fmt.SEGMENT_LOG, segment.slot, segment.sequence, first_group)
        self._checkpointer.update_superblock()
        self._catalog.release([*recovered.leftover_slots, *recovered.garbage_slots])

    def close(self) -> None:
        """Commit, mark the store clean, release the device. A second call does nothing. Calls of
        other threads that are under way may end with StoreClosed or StoreReadOnly.
        """
        # Nobody writes while the device is closed: its descriptor may be another file's at once.
        with self._maintenance_lock, self._log.write_lock:
            if self._closed:
                return
            try:
                if not self.read_only and self._log.failure is None:
                    self._log.commit()
                    if self._checkpointer.is_current() or self._checkpointer.write():
                        self._checkpointer.update_superblock(clean=1)
            finally:
                self._release()

    def _release(self) -> None:
        self._closed = True
        self._reader.close()
        self.device.close()

    def abandon(self) -> None:
        """In a fork of the process that opened the store: leave it to that one. From here on
        everything raises StoreClosed, and nothing waits for a lock.
        """
        self._maintenance_lock, self._log.state_lock, self._log.write_lock = (
            threading.Lock(), threading.Lock(), threading.RLock(),
        )  # fmt: skip
        self._release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    @property
    def geometry(self) -> superblock.Geometry:
        """Where things lie on the device; a resize changes it."""
        return self._volume.geometry

    # Blocks

    def put_many(self, items: Iterable[tuple[bytes, fmt.BytesLike]]) -> int:
        """Store what is not there yet; the number of new keys. Visible at once, durable after
        `commit`. Items before one that fails are stored.

        Raises KeyTooLarge, ValueTooLarge, StoreFull, StoreReadOnly.
        """
        self._check_open(writing=True)
        new = 0
        for run in runs(items):
            at = 0
            while at < len(run):
                at, staged = self._log.append_plain(run, at)
                new += staged
                if at < len(run):
                    new += self._put_one(*run[at])
                    at += 1
        return new

    def _put_one(self, key: bytes, value: fmt.BytesLike) -> int:
        value_max = self.geometry.value_size_max_bytes
        if not 0 < len(key) <= fmt.KEY_SIZE_MAX_BYTES:
            raise KeyTooLarge(f"a key has 1 to {fmt.KEY_SIZE_MAX_BYTES} bytes, not {len(key)}")
        if len(value) > value_max:
            raise ValueTooLarge(f"value of {len(value)} bytes; this store takes {value_max}")
        kept = frozen(value)
        fingerprint = fingerprint_of(key, self._volume.index_salt)
        draft = Draft(fmt.KIND_BLOCK, key, kept, crc32(kept), fingerprint)
        return self._with_room(lambda: self._put(draft), DATA)

    def _put(self, draft: Draft) -> int:
        with self._log.write_lock:
            drafts: tuple[Draft, ...] = (draft,)
            if self._catalog.index.locations(draft.fingerprint):
                if self._exists(draft.key):
                    return 0
                # What is there is damaged: it dies with the good copy's coming, in one group.
                dead = self._reader.dead([draft.key], None)
                drafts = (*tombstones_of(dead, self._catalog), draft)
            self._log.append(drafts, DATA)
            return 1

    def _with_room(self, action: Callable[[], int], right: int) -> int:
        """Run an action that stages all of its records or raises StoreFull; compact for it."""
        while True:
            try:
                return action()
            except StoreFull:
                with self._maintenance_lock:
                    if not self._compactor.reclaim(right):
                        raise

    def _exists(self, key: bytes) -> bool:
        try:
            return self._reader.find(key) is not None
        except BlockDamaged:
            return False

    def get(self, key: bytes) -> bytes:
        """Raises KeyNotFound, BlockDamaged, NewerFormat (as every read that finds a record of a
        newer program).
        """
        value = self._reader.value(key)
        if value is None:
            raise KeyNotFound(key)
        return value

    def get_many(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        """(key, value) of each key, None for one that is not there. In device order and read
        ahead, so that a cold store gives many much sooner than by `get`; only the keys are held in
        memory. Raises BlockDamaged, NewerFormat at the key it is about; nothing comes after that.
        """
        self._check_open()
        return self._reader.values(keys)

    def get_part(self, key: bytes, start: int, length: int, *, damaged_too: bool = False) -> bytes:
        """Bytes of the value from `start` on, fewer only at its end; never checked against its
        checksum: for a caller who has checked the whole value before. With `damaged_too` even of a
        value that was found damaged since: for one who can tell.

        Raises KeyNotFound, BlockDamaged.
        """
        part = self._reader.part(key, start, length, damaged_too=damaged_too)
        if part is None:
            raise KeyNotFound(key)
        return part

    def view(self, key: bytes) -> AbstractContextManager[memoryview]:
        """The value without a copy where possible: read-only, valid inside the `with` only, and
        open once at a time. What it lies in is not freed meanwhile, so be short.

        Raises KeyNotFound, BlockDamaged on entering.
        """
        return self._reader.view(key)

    def has(self, key: bytes) -> bool:
        """A miss needs no I/O. Raises BlockDamaged when the key's record is known to be damaged."""
        return self._reader.has(key)

    def has_many(self, keys: Iterable[bytes]) -> list[bool]:
        return [self._reader.has(key) for key in keys]

    def size_of(self, key: bytes) -> int:
        """Size of the value in bytes. Raises KeyNotFound, BlockDamaged."""
        size = self._reader.size(key)
        if size is None:
            raise KeyNotFound(key)
        return size

    def delete_many(self, keys: Iterable[bytes], *, before: int | None = None) -> int:
        """Delete what is there; the number of keys deleted. With `before`, only keys put at that
        log position or earlier. Gone at once, durably after `commit`.

        Raises StoreFull, StoreReadOnly.
        """
        self._check_open(writing=True)
        remaining = iter(keys)
        deleted = 0
        while some := list(islice(remaining, fmt.TOMBSTONES_PER_RECORD_MAX)):
            deleted += self._with_room(partial(self._delete, some, before), RELEASE)
        return deleted

    def _delete(self, keys: list[bytes], before: int | None) -> int:
        with self._log.write_lock:
            dead = self._reader.dead(keys, before)
            if dead:
                self._log.append(tombstones_of(dead, self._catalog), RELEASE)
            return len(dead)

    def apply(self, changes: batch.Changes) -> None:
        """Put, replace and delete (None) together: after a crash all changes are there or none,
        and readers never see a replaced key missing. A value that is there writes nothing.

        One batch costs at most `batch.batch_size_max_bytes`. Visible at once, durable after
        `commit`. Raises KeyTooLarge, ValueTooLarge, StoreFull, StoreReadOnly.
        """
        self._check_open(writing=True)
        batch.check(changes, self.geometry.value_size_max_bytes)
        new = [(key, value) for key, value in changes.items() if value is not None]
        if len(new) == len(changes) and self._log.append_plain(new, together=True)[1]:
            return
        salt = self._volume.index_salt
        blocks = batch.blocks_of(changes, salt)
        right = DATA if any(blocks.values()) else RELEASE
        self._with_room(lambda: self._apply(blocks, salt, right), right)

    def _apply(self, blocks: Mapping[bytes, Draft | None], salt: int, right: int) -> int:
        with self._log.write_lock:
            drafts = batch.drafts_of(blocks, self._catalog, self._reader, salt)
            return self._log.append(drafts, right) if drafts else 0

    def condemn(self, key: bytes) -> None:
        """The caller found the key's value wrong by a hash of its own: until the store is closed it
        counts as damaged, so that a put stores it anew."""
        condemn(self._reader, self._catalog, self._log, key)

    def keys(self) -> Iterator[bytes]:
        """All keys there are now, in device order, without those of unreadable records. Of those
        deleted meanwhile some may be missing. Takes 16 bytes of memory per key while it runs."""
        return self._reader.keys()

    def set_name(self, name: bytes, value: bytes | None) -> None:
        """Set a name, or remove it with None; see `set_names`."""
        self.set_names({name: value})

    def set_names(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Set and remove names together: after a crash all changes are there or none.

        Everything put before is there whenever the change is. Durable after `commit`.
        Raises KeyTooLarge, ValueTooLarge, StoreFull, StoreReadOnly.
        """
        self._check_open(writing=True)
        self._ledger.set_names(changes)

    def name(self, name: bytes) -> bytes | None:
        """The name's value, or None. Raises BlockDamaged."""
        self._check_open()
        return self._ledger.name(name)

    def names(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """(name, value) of all names with the prefix, sorted by name. Raises BlockDamaged."""
        self._check_open()
        return self._ledger.names(prefix)

    def journal(self, stream: int) -> JournalStream:
        """The journal with that number, 0 to 2^64 - 1; it need not exist before."""
        if not 0 <= stream < 1 << 64:
            raise KeyTooLarge(f"a stream is numbered 0 to 2^64 - 1, not {stream}")
        return JournalStream(self._ledger, stream, self._check_open)

    def commit(self) -> None:
        """Everything put, set, deleted or appended before survives a power cut when it returns.

        Raises StoreReadOnly when the device cannot promise that; then nothing since the last
        successful commit is promised, and the store takes no more writes.
        """
        self._check_open(writing=True)
        self._log.commit()
        if self._checkpointer.is_due() and self._maintenance_lock.acquire(blocking=False):
            try:
                self._checkpointer.write()
            finally:
                self._maintenance_lock.release()

    def compact(
        self, budget_bytes: int | None = None, *, background: bool = False
    ) -> CompactReport:
        """Give back the space of dead records, copying about `budget_bytes` at most.

        In the background: nothing while other upkeep runs, and what it empties is freed when that
        is worth a checkpoint, perhaps by a later call. Raises StoreReadOnly.
        """
        self._check_open(writing=True)
        if not self._maintenance_lock.acquire(blocking=not background):
            return CompactReport()
        try:
            return self._compactor.compact(budget_bytes, background=background)
        finally:
            self._maintenance_lock.release()

    def resize(
        self,
        size_bytes: int | None = None,
        *,
        wait_s: float = VIEWS_WAIT_S,
        progress: Progress = lambda _done, _total: None,
    ) -> ResizeReport:
        """Give the store so many bytes of its device, by default all there are; a plain file
        grows or is cut with it. Durable when it returns; a power cut leaves the old size or the
        new one and everything stored. Readers and writers go on; open views of what must move are
        waited for, `wait_s` at most.

        Raises SizeTooSmall, DeviceTooSmall, StoreBusy, SegmentDamaged, StoreReadOnly; the store
        then is as large as before.
        """
        resizer = Resizer(*self._parts, self._compactor, self._reader, self._maintenance_lock)
        return resizer.resize(size_bytes, wait_s, lambda: self._check_open(writing=True), progress)

    def write_out(self) -> None:
        """Hand everything staged to the system: it survives kill -9, not a power cut."""
        self._check_open(writing=True)
        self._log.write_out()

    def checkpoint(self) -> bool:
        """Write a snapshot of the index, so that the next open is quick even after a crash; the
        store does it by itself, too. False when too little is free. Raises StoreReadOnly."""
        self._check_open(writing=True)
        with self._maintenance_lock:
            return self._checkpointer.write()

    def check(self, progress: ProgressCallback | None = None) -> CheckReport:
        """Read and verify everything; writers and compaction wait meanwhile. Reports damage by
        key and device offset and changes nothing but staging: what is staged is written first.
        """
        log = self._log
        with self._maintenance_lock, log.write_lock:
            self._check_open()
            if not self.read_only and log.failure is None:
                log.write_out()
            return Checker(self._volume, self._catalog, progress).run()

    def repair(self, progress: ProgressCallback | None = None) -> RepairReport:
        """Check; keep what verifies, drop what does not, and check again. Writers wait, readers
        may go on. Raises StoreReadOnly."""
        self._check_open(writing=True)
        with self._maintenance_lock, self._log.write_lock:
            return Repairer(*self._parts, self._compactor, progress).run()

    def scrub(
        self,
        *,
        rate_bytes_s: int | None = None,
        restart: bool = False,
        progress: ProgressCallback | None = None,
    ) -> ScrubReport:
        """Read and verify everything alive while others read and write; note what is damaged. Goes
        on where the last one was ended. Raises StoreReadOnly, and what `progress` raises.
        """
        self._check_open(writing=True)
        scrubber = Scrubber(*self._parts, self._maintenance_lock, self._check_open)
        return scrubber.run(Pacer(rate_bytes_s), restart=restart, progress=progress)

    def spare_range(self) -> tuple[int, int]:
        """(offset, length) on the device of a free segment with room below it, for who measures
        that: as long as nothing is written to the store, anything may be written there. Raises
        StoreFull, StoreReadOnly, StoreClosed.
        """
        # It refuses a store that is closed, read-only or failing, and leaves nothing staged.
        self.commit()
        with self._log.write_lock:
            if not self._log.secure_slots(1):
                raise StoreFull(self.device.name)
            slot = self._catalog.free[0]
        return self.geometry.segment_offset(slot), self.geometry.segment_size_bytes

    def position(self) -> int:
        """In the log: that of everything written later is larger."""
        return self._log.position

    def stats(self) -> StoreStats:
        return measure(
            self._volume, self._catalog, self._log, self._checkpointer, read_only=self.read_only
        )

    def _check_open(self, *, writing: bool = False) -> None:
        if self._closed:
            raise StoreClosed
        if writing and self.read_only:
            raise StoreReadOnly(f"{self.device.name} was opened read-only")
        if writing:
            self._log.check_writable()
