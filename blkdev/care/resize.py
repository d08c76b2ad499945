"""Make a store larger or smaller, in place and while it is used.

    grow:    more bytes -> sync -> wipe what looks like a segment there -> superblock
    shrink:  withhold the slots beyond the end -> empty those in use -> superblock -> fewer bytes

Invariants
- A slot that both sizes have keeps its place, so no record moves that need not, and readers and
  writers may compute with either geometry while it changes.
- The superblock is what decides: a power cut leaves the old geometry or the new one. Before the
  new one is durable, nothing is put where only it has room; after it, nothing lies where only the
  old one had.
- Readers never wait. A writer waits for the emptying of one segment at most, and only when it
  finds no room; what it writes goes below the new end from the first moment on.
- A resize that fails leaves the store as large as it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from blkdev import format as fmt
from blkdev.catalog import Catalog, Segment
from blkdev.checkpoint import Checkpointer
from blkdev.compaction.compact import Compactor, CompactReport
from blkdev.errors import DeviceTooSmall, SegmentDamaged, SizeTooSmall, StoreBusy, StoreFull
from blkdev.log import DATA, Log
from blkdev.reader import Reader
from blkdev.segment import Volume, identify
from blkdev.superblock import SEGMENTS_OFFSET, Geometry

VIEWS_WAIT_S = 10.0
_VIEWS_PAUSE_S = 0.05
_STEP_PAUSE_S = 0.001

Progress = Callable[[int, int], None]
"""Told (segments moved so far, segments to move) between steps. What it raises ends the resize."""


@dataclass
class ResizeReport:
    """What one resize did; sizes in bytes. `cut` is False when a plain file is still longer than
    its store, because maps of its end were in use: the next resize cuts it.
    """

    device_size_bytes: int
    segments_before: int
    segments: int
    moved_bytes: int = 0
    cut: bool = False


def resized(old: Geometry, size_bytes: int, name: str) -> Geometry:
    """The largest geometry on so many bytes in which each segment lies where it did in `old`.

    The middle copy stays, too, unless it would lie beyond the end: then it goes right before the
    last copy. Raises SizeTooSmall.
    """
    unit, segment = fmt.ERASE_UNIT_SIZE_BYTES, old.segment_size_bytes
    end = (size_bytes & -unit) - unit
    middle, before = old.middle_offset, old.segments_before_middle
    if middle + unit > end:
        middle = end - unit
        before = min(before, max(0, middle - SEGMENTS_OFFSET) // segment)
    count = min(before + (end - middle - unit) // segment, fmt.SEGMENT_COUNT_MAX)
    if count < fmt.SEGMENT_COUNT_MIN:
        least = SEGMENTS_OFFSET - (-fmt.SEGMENT_COUNT_MIN * segment // unit) * unit + 2 * unit
        raise SizeTooSmall(
            f"{name} cannot have {size_bytes} bytes: with segments of {segment} bytes a store "
            f"needs {least} (choose a larger size)"
        )
    return Geometry(segment, count, before, middle, end)


class Resizer:
    """Resizes one open store. Takes the maintenance lock for each step."""

    def __init__(
        self,
        volume: Volume,
        catalog: Catalog,
        log: Log,
        checkpointer: Checkpointer,
        compactor: Compactor,
        reader: Reader,
        maintenance_lock: Lock,
    ) -> None:
        self._volume = volume
        self._catalog = catalog
        self._log = log
        self._checkpointer = checkpointer
        self._compactor = compactor
        self._reader = reader
        self._maintenance_lock = maintenance_lock
        self._adopted = True

    def resize(
        self,
        size_bytes: int | None,
        wait_s: float,
        check_open: Callable[[], None],
        progress: Progress,
    ) -> ResizeReport:
        """See `Store.resize`."""
        device, catalog = self._volume.device, self._catalog
        with self._maintenance_lock:
            check_open()
            if catalog.is_withholding:
                raise StoreBusy(f"{device.name}: a resize is running (wait for it)")
            old = self._volume.geometry
            wanted = device.measure() if size_bytes is None else size_bytes
            new = resized(old, wanted, device.name)
            report = ResizeReport(wanted, old.segment_count, new.segment_count)
            if not all(device.reserve(at, fmt.PAGE_SIZE_BYTES) for at in new.copy_offsets):
                raise StoreFull(device.name)
            if new.segment_count < old.segment_count:
                self._refuse_if_full(new, wanted)
            with self._log.write_lock, self._log.state_lock:
                catalog.withhold(min(old.segment_count, new.segment_count))
            self._adopted = False
        try:
            if new.segment_count < old.segment_count:
                self._shrink(new, report, wait_s, check_open, progress)
            else:
                with self._maintenance_lock:
                    check_open()
                    self._grow(new, report)
        except BaseException:
            # As long as slots are withheld no other resize begins; afterwards one may have.
            if not self._adopted:
                self._adopt(self._volume.geometry)
            raise
        return report

    def _adopt(self, geometry: Geometry) -> None:
        with self._log.write_lock, self._log.state_lock:
            self._volume.geometry = geometry
            self._reader.refresh()
            self._catalog.end_withholding(geometry.segment_count)
        self._adopted = True

    def _finish(self, report: ResizeReport) -> None:
        with contextlib.suppress(OSError):
            report.cut = self._volume.device.set_size(report.device_size_bytes)
        if not self._checkpointer.write():
            # The new length, too, is durable with a sync only.
            self._log.write_out()
            self._log.sync()

    def _switch(self, old: Geometry, new: Geometry, report: ResizeReport) -> None:
        """Make the new geometry that of the store, durably; then erase the copies of the old."""
        self._checkpointer.update_superblock(
            device_size_bytes=report.device_size_bytes,
            segment_count=new.segment_count,
            segments_before_middle=new.segments_before_middle,
            middle_offset=new.middle_offset,
            end_offset=new.end_offset,
        )
        device, page = self._volume.device, bytes(fmt.PAGE_SIZE_BYTES)
        for offset in {*old.copy_offsets} - {*new.copy_offsets}:
            self._log.guarded(lambda at=offset: device.write(at, [page]))  # type: ignore[misc]  # bound now
        self._log.sync()

    # Growing

    def _grow(self, new: Geometry, report: ResizeReport) -> None:
        log, catalog, volume = self._log, self._catalog, self._volume
        device, old = volume.device, volume.geometry
        if report.device_size_bytes > device.size_bytes:
            try:
                device.set_size(report.device_size_bytes)
            except (OSError, OverflowError) as error:
                raise DeviceTooSmall(f"{device.name} cannot be made larger: {error}") from error
            # A superblock that is durable must not speak of bytes that are not.
            log.sync()
        added = range(old.segment_count, new.segment_count)
        with log.write_lock, log.state_lock:
            volume.geometry = new
            catalog.release(added)
        try:
            # What an earlier, larger life of this store left here must not come back. Freed slots
            # of that time may be numbered anew, and lie across the new ones.
            log.wipe([slot for slot in added if self._is_leftover(slot)])
            self._switch(old, new, report)
        except BaseException:
            self._adopt(old)
            raise
        self._adopt(new)
        self._finish(report)

    def _is_leftover(self, slot: int) -> bool:
        """Bad ones are not in the log, whatever they hold, and are not to be written to."""
        if slot in self._catalog.bad_slots:
            return False
        found = identify(self._volume, slot)
        return found.kind != fmt.SEGMENT_FREE or not found.whole

    # Shrinking

    def _shrink(
        self,
        new: Geometry,
        report: ResizeReport,
        wait_s: float,
        check_open: Callable[[], None],
        progress: Progress,
    ) -> None:
        volume, first, total = self._volume, new.segment_count, 0
        deadline_s = time.monotonic() + wait_s
        while True:
            with self._maintenance_lock:
                check_open()
                left = self._beyond(first)
                if not left:
                    self._keep_reserve(report)
                    old = volume.geometry
                    # First, so that an interrupted switch cannot leave more here than there.
                    self._adopt(new)
                    self._renumber_bad(old, new)
                    self._switch(old, new, report)
                    self._finish(report)
                    return
                moving = self._move(first, left, report)
            total = max(total, len(left))
            progress(total - len(left), total)
            if moving:
                deadline_s = time.monotonic() + wait_s
            elif time.monotonic() >= deadline_s:
                raise StoreBusy(
                    f"{volume.device.name}: open views keep what lies beyond the new end "
                    "(close what reads it, then try again)"
                )
            # Who waits for the lock shall get it, and who reads shall come to an end.
            time.sleep(_STEP_PAUSE_S if moving else _VIEWS_PAUSE_S)

    def _keep_reserve(self, report: ResizeReport) -> None:
        """Without it, a store could not even delete. Raises SizeTooSmall."""
        catalog = self._catalog
        if len(catalog.free) < DATA:
            self._checkpointer.drop()
        if len(catalog.free) < DATA:
            self._compactor.reclaim(DATA - 1)
        if len(catalog.free) < DATA:
            raise self._too_small(report.device_size_bytes)

    def _renumber_bad(self, old: Geometry, new: Geometry) -> None:
        """Bad segments beyond the end get the numbers that their bytes have when the store grows
        again: without a moved middle copy these are the same, else those of one or two segments.
        """
        bad, size = self._catalog.bad_slots, new.segment_size_bytes
        renumbered: dict[int, bool] = {}
        for slot in sorted(slot for slot in bad if slot >= new.segment_count):
            retired = bad.pop(slot)
            begin = old.segment_offset(slot) - new.segment_offset(new.segment_count)
            for number in (begin // size, (begin + size - 1) // size):
                if number >= 0:
                    renumbered[new.segment_count + number] = retired
        bad.update(renumbered)

    def _refuse_if_full(self, new: Geometry, size_bytes: int) -> None:
        """Nothing is moved when even a store without a dead byte would not fit."""
        usable = new.segment_size_bytes - 2 * fmt.PAGE_SIZE_BYTES
        if self._catalog.live_bytes > (new.segment_count - DATA) * usable:
            raise self._too_small(size_bytes)

    def _too_small(self, size_bytes: int) -> SizeTooSmall:
        return SizeTooSmall(
            f"{self._volume.device.name}: what is stored does not fit into {size_bytes} bytes "
            "(delete something, or choose a larger size)"
        )

    def _beyond(self, first_slot: int) -> list[Segment]:
        """Segments in use from `first_slot` on; nothing is being filled or checkpointed there."""
        log = self._log
        with log.write_lock:
            if log.active is not None and log.active.slot >= first_slot:
                log.retire()
        if any(slot >= first_slot for slot in self._checkpointer.slots):
            self._checkpointer.drop()
        with log.state_lock:
            return [s for s in self._catalog.segments.values() if s.slot >= first_slot]

    def _move(self, first_slot: int, left: list[Segment], report: ResizeReport) -> bool:
        """Empty and free a segment; False while views keep all that are left.

        Raises SegmentDamaged, SizeTooSmall.
        """
        done = CompactReport()
        moving = self._compactor.free_some(done, beyond=first_slot)
        if not moving and not self._compactor.is_held:
            # No room for what they keep, unless dead records elsewhere give theirs.
            self._compactor.free_some(done, limit_bytes=1)
            moving = done.segments_freed > 0
            if not moving:
                raise self._too_small(report.device_size_bytes)
        report.moved_bytes += done.copied_bytes
        damaged = [segment for segment in left if self._compactor.is_unmovable(segment)]
        if damaged:
            offset = self._volume.geometry.segment_offset(damaged[0].slot)
            raise SegmentDamaged(
                f"{self._volume.device.name}: the segment at byte {offset} is damaged and cannot "
                "be moved (check says what is hit)"
            )
        return moving
