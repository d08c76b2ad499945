"""When the background compacts, and how much: only what is worth it, and no faster than allowed.

Copying is paid for from an account that fills at a fixed rate. A step may overdraw it by a segment,
and then the next ones wait. So the average never exceeds the rate, and a store that is idle for
long gets no burst larger than one second's worth.

It is worth it when a quarter of what is used is dead: every byte copied gives at least a third of a
byte. When the store is nearly full, a twentieth is enough: somebody will have to wait for it soon.
"""

from __future__ import annotations

from blkdev.compaction.compact import CompactReport
from blkdev.stats import StoreStats

_DEAD_SHARE_MIN = 1 / 4
_DEAD_SHARE_MIN_SCARCE = 1 / 20
_SCARCE_SHARE = 1 / 8
_DEAD_SEGMENTS_MIN = 2
_USELESS_PAUSE_S = 60.0
"""After a step that found nothing to do: what is dead lies where it cannot be freed yet."""


class Pace:
    """The account of one store's background compaction. Not thread-safe: one thread drives it."""

    def __init__(self, rate_bytes_per_s: int) -> None:
        """A rate of 0 never compacts."""
        self._rate_bytes_per_s = rate_bytes_per_s
        self._balance_bytes = 0.0
        self._at_s: float | None = None
        self._not_before_s = 0.0

    def budget(self, now_s: float, stats: StoreStats) -> int:
        """Bytes to copy now; 0 when there is nothing worth it or the account is empty. `now_s` is
        of a clock that never goes backwards.
        """
        passed_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        earned = self._balance_bytes + passed_s * self._rate_bytes_per_s
        self._balance_bytes = min(earned, float(self._rate_bytes_per_s))
        if now_s < self._not_before_s or not is_worth_it(stats):
            return 0
        return max(0, int(self._balance_bytes))

    def spend(self, report: CompactReport) -> None:
        """What a step with the last budget did."""
        self._balance_bytes -= report.copied_bytes
        if not report.copied_bytes and not report.segments_freed and self._at_s is not None:
            self._not_before_s = self._at_s + _USELESS_PAUSE_S


def is_worth_it(stats: StoreStats) -> bool:
    """Whether so much is dead that giving it back is worth the copying."""
    if stats.read_only or stats.latched:
        return False
    if stats.dead_bytes < _DEAD_SEGMENTS_MIN * stats.segment_size_bytes:
        return False
    scarce = stats.free_bytes < stats.capacity_bytes * _SCARCE_SHARE
    share = _DEAD_SHARE_MIN_SCARCE if scarce else _DEAD_SHARE_MIN
    return stats.dead_bytes >= share * (stats.dead_bytes + stats.live_bytes)
