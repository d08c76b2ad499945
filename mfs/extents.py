"""Written ranges and their bytes, as pure data structures.

`Extents` holds the bytes that were written into one leaf and are not in the DAG yet. Only written
bytes take memory: a scattered write costs itself and not the leaf. `Intervals` are the same without
bytes: which ranges the journal has not seen.

Invariants of both: ranges are disjoint, ascending and never empty, and ranges that touch are one.
Nothing here takes a lock; the owner of the file does.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from ipld.varint import BytesLike

PIECE_OVERHEAD_BYTES = 128
"""Memory of a piece beside its bytes, so that many tiny writes count as what they are."""


class Extents:
    """Pieces of bytes by offset."""

    __slots__ = ("_pieces", "_starts", "size_bytes")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[bytearray] = []
        self.size_bytes = 0
        """Written bytes held."""

    @property
    def memory_bytes(self) -> int:
        """What the pieces take, roughly."""
        return self.size_bytes + PIECE_OVERHEAD_BYTES * len(self._pieces)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def write(self, start: int, data: BytesLike) -> None:
        """Put `data` over whatever is there. The bytes are copied."""
        length = len(data)
        if not length:
            return
        starts, pieces = self._starts, self._pieces
        if starts and start == starts[-1] + len(pieces[-1]):
            # The common case: a writer that goes on where it was.
            pieces[-1] += data
            self.size_bytes += length
            return
        end = start + length
        # The first piece that reaches up to `start`, and the first that begins behind `end`.
        first = bisect_right(starts, start) - 1
        if first < 0 or starts[first] + len(pieces[first]) < start:
            first += 1
        last = first
        while last < len(starts) and starts[last] <= end:
            last += 1
        if first == last:
            starts.insert(first, start)
            pieces.insert(first, bytearray(data))
            self.size_bytes += length
            return
        before = sum([len(piece) for piece in pieces[first:last]])
        merged_start = min(start, starts[first])
        merged = self._merge(start, data, first, last)
        starts[first:last] = [merged_start]
        pieces[first:last] = [merged]
        self.size_bytes += len(merged) - before

    def _merge(self, start: int, data: BytesLike, first: int, last: int) -> bytearray:
        """One piece from pieces first … last-1 with `data` over them; grows the first in place."""
        at = start - self._starts[first]
        end = start + len(data)
        merged = self._pieces[first]
        if at < 0:
            tail = merged[len(data) + at :]
            merged = bytearray(data)
            merged += tail
        elif at == len(merged):
            merged += data
        else:
            merged[at : at + len(data)] = data
        if last - first > 1:
            behind = self._pieces[last - 1]
            merged += memoryview(behind)[max(0, end - self._starts[last - 1]) :]
        return merged

    def truncate(self, end: int) -> None:
        """Forget what lies at `end` and behind it."""
        starts, pieces = self._starts, self._pieces
        keep = bisect_left(starts, end)
        for piece in pieces[keep:]:
            self.size_bytes -= len(piece)
        del starts[keep:], pieces[keep:]
        if keep and starts[-1] + len(pieces[-1]) > end:
            self.size_bytes -= starts[-1] + len(pieces[-1]) - end
            del pieces[-1][end - starts[-1] :]

    def slices(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """Written parts of start … end in order, as offset and view.

        A view must be released before the next write: a buffer that is looked at cannot grow.
        """
        starts, pieces = self._starts, self._pieces
        index = max(0, bisect_right(starts, start) - 1)
        while index < len(starts) and starts[index] < end:
            piece_start, piece = starts[index], pieces[index]
            low, high = max(start, piece_start), min(end, piece_start + len(piece))
            if low < high:
                yield low, memoryview(piece)[low - piece_start : high - piece_start]
            index += 1

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Start and end of each piece, ascending."""
        for start, piece in zip(self._starts, self._pieces, strict=True):
            yield start, start + len(piece)

    def take_whole(self, length: int) -> bytearray | None:
        """The only piece, if it is exactly 0 … length; the caller must not change it."""
        if self._starts == [0] and len(self._pieces[0]) == length:
            return self._pieces[0]
        return None


class Intervals:
    """Ranges without bytes."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def add(self, start: int, end: int) -> None:
        """Include start … end."""
        if start >= end:
            return
        ranges = self._ranges
        if not ranges or start > ranges[-1][1]:
            ranges.append((start, end))
            return
        # The common case: a writer that goes on where it was.
        if start >= ranges[-1][0]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            return
        first = bisect_left(ranges, start, key=_end_of)
        last = first
        while last < len(ranges) and ranges[last][0] <= end:
            start, end = min(start, ranges[last][0]), max(end, ranges[last][1])
            last += 1
        ranges[first:last] = [(start, end)]

    def truncate(self, end: int) -> None:
        """Forget what lies at `end` and behind it."""
        ranges = self._ranges
        while ranges and ranges[-1][1] > end:
            start, _ = ranges.pop()
            if start < end:
                ranges.append((start, end))

    def clear(self) -> None:
        """Forget everything."""
        self._ranges.clear()


def _end_of(interval: tuple[int, int]) -> int:
    return interval[1]
