"""Which segments to empty: those that give most for their cost, and will not give more soon.

Emptying a segment of utilisation u reads it and writes u of it again, which costs 1 + u, and gives
1 - u. A segment that is old has records that live long: its free space stays free, while a young
segment's records will mostly die without our doing. So (Rosenblum and Ousterhout, "The design and
implementation of a log-structured file system", 1992, section 3.6)

    benefit / cost = (1 - u) * age / (1 + u)

Age is counted in segments that were begun since: a clock that goes wrong changes nothing.

Invariant: no segment is chosen that is fuller than the average. However old one is, a round then
writes at most 1 / (1 - u) bytes for each byte gained, u being the average.
"""

from __future__ import annotations

from blkdev import format as fmt
from blkdev.catalog import Segment


def by_benefit(segments: list[Segment], newest: int) -> list[Segment]:
    """The segments that are no fuller than their average, best first. `newest` is a segment
    sequence above theirs.
    """
    if not segments:
        return []
    live_bytes = sum(segment.live_bytes for segment in segments)
    average = live_bytes / max(1, sum(map(_size, segments)))
    # The emptiest is none above the average, whatever rounding makes of it.
    most = max(average, min(map(utilisation, segments)))
    worth = [segment for segment in segments if utilisation(segment) <= most]
    return sorted(worth, key=lambda segment: (-_benefit(segment, newest), segment.sequence))


def utilisation(segment: Segment) -> float:
    """Share of the segment's bytes that are alive."""
    return segment.live_bytes / max(1, _size(segment))


def _size(segment: Segment) -> int:
    return segment.end - fmt.PAGE_SIZE_BYTES


def _benefit(segment: Segment, newest: int) -> float:
    used = utilisation(segment)
    return (1 - used) * (newest - segment.sequence) / (1 + used)
