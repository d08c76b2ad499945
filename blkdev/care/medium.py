"""Reading from the medium itself, past what the system has cached: what is cached is no proof of
what is on the device, and must not be driven out by a reader of everything.

Large pieces, one after the other. While one is looked at, a helper thread reads the next.

Invariants
- Two pieces are in memory at most, each with what was left over of the one before it.
- An error of the device is raised where the bytes are asked for that it is about, never before.
- Where nothing but memory is below, there is no helper: pieces are read when they are asked for.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from blkdev.device import Device
from blkdev.format import PAGE_SIZE_BYTES, aligned

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

PIECE_SIZE_BYTES = 4 << 20
_FIRST_SIZE_BYTES = 64 << 10
"""What is read at a place that nothing led to: it may be all that somebody wants there."""
_ROOM_BEFORE_BYTES = 4 << 20
"""In front of a piece, for what was left over of the one before: a group is seldom larger."""


def _unpaced(_size_bytes: int) -> None:
    pass


class _Piece(NamedTuple):
    """What was read, with whatever memory is before it."""

    memory: memoryview
    begin: int
    end: int

    def behind(self, kept: memoryview) -> memoryview:
        """The piece and what is to be before it as one; without a copy of the piece where there is
        room.
        """
        if len(kept) > self.begin or self.memory.readonly:
            return memoryview(b"".join((kept, self.memory[self.begin : self.end])))
        begin = self.begin - len(kept)
        self.memory[begin : self.begin] = kept
        return self.memory[begin : self.end]


class _Ended(Exception):  # it is no error
    """Carries an OSError of the caller's own past those who take it for one of the device."""


class _Ahead(NamedTuple):
    """A piece that is being read."""

    offset: int
    piece: Future[_Piece]


class Source:
    """A device read from its medium. Not thread-safe. `pace` is told the bytes before each read; it
    may wait, or raise to end the work: what it raised comes out of the `with`.
    """

    def __init__(self, device: Device, pace: Callable[[int], None] = _unpaced) -> None:
        self._device = device
        self._pace = pace
        self._direct = _opened(device)
        self._helper: ThreadPoolExecutor | None = None
        self._buffers: list[memoryview] = []
        self._current = memoryview(b"")
        self._ahead: _Ahead | None = None
        self._following = range(0)
        self._offset = 0
        self._data = memoryview(b"")
        self._is_in_order = False
        # Where a large piece could not be read, so that only what is asked for is.
        self._patchy = range(0)
        self.read_bytes = 0

    def read(self, offset: int, length: int, room: int) -> bytes:
        """Bytes of the device; as many more as `room` says may be read with them. Raises OSError
        and what `pace` raises.
        """
        return bytes(self.view(offset, length, room))

    def view(self, offset: int, length: int, room: int) -> memoryview:
        """As `read`, without a copy; valid until the next call of any method."""
        at = offset - self._offset
        if not 0 <= at <= len(self._data):
            self.forget()
            self._offset, at = offset, 0
        while at + length > len(self._data):
            self._extend(at, length, room)
            at = 0
        return self._data[at : at + length]

    def expect(self, offset: int, room: int) -> None:
        """Once nothing is left to read ahead, go on there."""
        self._following = range(offset, offset + room)

    def forget(self) -> None:
        """Read the device itself the next time."""
        self._data, self._is_in_order = memoryview(b""), False

    def __enter__(self) -> Source:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.close()
        if isinstance(error, _Ended) and error.__cause__ is not None:
            raise error.__cause__

    def close(self) -> None:
        """Wait for a read that is under way. Nothing can be read afterwards."""
        if self._helper is not None:
            self._helper.shutdown()
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None

    def _extend(self, at: int, length: int, room: int) -> None:
        """Drop what is before `at`, and add the next piece; where the device is patchy, one that
        makes it `length` bytes and no more.
        """
        kept, self._offset, self._data = self._data[at:], self._offset + at, memoryview(b"")
        offset, left = self._offset + len(kept), length - len(kept)
        is_expected = self._ahead is not None and self._ahead.offset == offset
        is_in_order, self._is_in_order = self._is_in_order or is_expected, True
        size = PIECE_SIZE_BYTES if is_in_order else _FIRST_SIZE_BYTES
        least = min(PIECE_SIZE_BYTES, left)
        most = least if offset in self._patchy else max(least, min(size, room - len(kept)))
        try:
            piece = self._take(offset, most)
        except OSError:
            if least == most:
                raise
            self._patchy = range(offset, offset + most)
            piece = self._take(offset, least)
        self._data, self._current = piece.behind(kept), piece.memory
        if is_in_order:
            self._read_ahead(range(self._offset + len(self._data), self._offset + room))

    def _take(self, offset: int, length: int) -> _Piece:
        """The next piece, which may have been asked for already."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # Whatever it is of, it is written to memory that the next one may get.
            ahead.piece.exception()
            if ahead.offset == offset:
                return ahead.piece.result()
        self._announce(length)
        return self._fetch(offset, length, self._free())

    def _read_ahead(self, rest: range) -> None:
        """Begin with the next piece of the rest or, when there is none, of what follows."""
        if not rest:
            rest, self._following = self._following, range(0)
        length = min(PIECE_SIZE_BYTES, len(rest))
        if self._direct is None or not length or rest.start in self._patchy:
            return
        self._announce(length)
        if self._helper is None:
            # It takes a while to import, and every command would wait for that.
            from concurrent.futures import ThreadPoolExecutor

            self._helper = ThreadPoolExecutor(1, "read-ahead")
        piece = self._helper.submit(self._fetch, rest.start, length, self._free())
        self._ahead = _Ahead(rest.start, piece)

    def _announce(self, length: int) -> None:
        try:
            self._pace(length)
        except OSError as error:
            raise _Ended from error
        self.read_bytes += length

    def _free(self) -> memoryview:
        """Memory that holds nothing of what was read last."""
        if self._direct is None:
            return memoryview(b"")
        if len(self._buffers) < 2:
            size = _ROOM_BEFORE_BYTES + PIECE_SIZE_BYTES + PAGE_SIZE_BYTES
            self._buffers.append(memoryview(mmap.mmap(-1, size)))
        return next(each for each in reversed(self._buffers) if each is not self._current)

    def _fetch(self, offset: int, length: int, memory: memoryview) -> _Piece:
        """A piece of the device. Falls back to its cache where there is no way past that."""
        begin = offset & -PAGE_SIZE_BYTES
        start = _ROOM_BEFORE_BYTES
        end = start + aligned(offset + length - begin)
        try:
            if self._direct is not None:
                count = os.preadv(self._direct, [memory[start:end]], begin)
                start += offset - begin
                # Less than asked for: the end of a file that is not whole pages.
                if count >= offset - begin + length:
                    return _Piece(memory, start, start + length)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot do it
                raise
        return _Piece(memoryview(self._device.read(offset, length)), 0, length)


def _opened(device: Device) -> int | None:
    """A description of its own for reads past the cache: the flag would hold for all others, too.
    None where there is no way past it.
    """
    if device.descriptor is None:
        return None
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT
    try:
        return os.open(f"/proc/self/fd/{device.descriptor}", flags)
    except OSError:
        return None
