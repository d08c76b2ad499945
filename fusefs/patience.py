"""Waiting for the next request: ask for a moment, then sleep.

A busy program's next request comes sooner than a processor that was put to sleep comes back. Asking
in vain costs luck, and without luck it is only tried now and then: where the other side needs this
very processor, or is in no hurry, it would be a waste.
"""

from __future__ import annotations

import select
from time import perf_counter

SPIN_S = 30e-6
"""How long to go on asking before going to sleep."""
LUCK_MAX = 16
RETRY_WAITS = 64


class Patience:
    """For one set of descriptors. Whoever waits for them takes turns; a count that another thread
    overtakes is a little wrong, which harms nobody.
    """

    __slots__ = ("_luck", "_poll", "_waits")

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._waits = 0
        self._luck = LUCK_MAX

    def events(self, timeout_ms: float | None, *, may_ask: bool) -> list[tuple[int, int]]:
        """As `poll` gives them; at most the timeout later. `may_ask` is for a time when nobody
        else needs the interpreter."""
        events = self._poll.poll(0)
        if events or timeout_ms == 0:
            return events
        self._waits += 1
        if may_ask and (self._luck or not self._waits % RETRY_WAITS):
            until = perf_counter() + SPIN_S
            while not events and perf_counter() < until:
                events = self._poll.poll(0)
            self._luck = min(max(self._luck + (1 if events else -1), 0), LUCK_MAX)
        return events or self._poll.poll(timeout_ms)
