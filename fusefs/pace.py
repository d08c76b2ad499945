"""Where a handler runs: in the event loop, or in a worker thread.

Handing a call to a thread and waiting for it costs more than most calls take, so quick calls run
in the loop. A call that may wait for the device, or for another thread, would hold up every other
caller there. Which of the two a call is, its recent past says best: after one slow call the next
ones of its kind go to threads, until they have proved quick again.

Invariant: a kind of call that keeps being slow keeps out of the loop: only one in
`THREADED_AFTER_SLOW` of its calls can hold the loop up.
"""

from __future__ import annotations

SLOW_S = 0.002
THREADED_AFTER_SLOW = 64


class Pace:
    """The recent past of one kind of call.

    Called from the event loop only; a worker's time is reported by the loop after the call.
    """

    __slots__ = ("always_threaded", "deadline_s", "name", "slow_count", "threaded_left")

    def __init__(self, name: str, deadline_s: float, *, always_threaded: bool = False) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self.always_threaded = always_threaded
        self.threaded_left = 0
        self.slow_count = 0

    def goes_to_thread(self) -> bool:
        """Decide for one call, which must then be made."""
        if self.always_threaded:
            return True
        if not self.threaded_left:
            return False
        self.threaded_left -= 1
        return True

    def took(self, duration_s: float) -> None:
        """Report how long one call worked."""
        if duration_s > SLOW_S:
            self.slow_count += 1
            self.threaded_left = THREADED_AFTER_SLOW
