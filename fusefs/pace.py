"""Where a handler runs: in the event loop, or in a worker thread.

Handing a call to a thread and waiting for it costs more than most calls take, so quick calls run
in the loop. A call that may wait for the device, or for another thread, would hold up every other
caller there. Which of the two a call is, its recent past says best: after one slow call the next
ones of its kind go to threads, until they have proved quick again.

Invariant: a kind of call that keeps being slow keeps out of the loop: only one in
`THREADED_AFTER_SLOW` of its calls can hold the loop up.
"""

from __future__ import annotations

from collections.abc import Callable

SLOW_S = 0.005
"""Above what the scheduler of a busy machine takes away in one go, below a disk's seek."""
THREADED_AFTER_SLOW = 64


class Pace:
    """The recent past of one kind of call.

    Called from the event loop only; a worker's time is reported by the loop after the call.
    """

    __slots__ = ("_would_wait", "always_threaded", "deadline_s", "name", "threaded_left")

    def __init__(
        self,
        name: str,
        deadline_s: float,
        would_wait: Callable[[int], bool],
        *,
        always_threaded: bool = False,
    ) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self.always_threaded = always_threaded
        self._would_wait = would_wait
        """Asked with the call's inode or handle: is it known already that it will take long?"""
        self.threaded_left = 0

    def goes_to_thread(self, subject: int) -> bool:
        """Decide for one call on an inode or handle, which must then be made."""
        if self.always_threaded:
            return True
        if self.threaded_left:
            self.threaded_left -= 1
            return True
        return self._would_wait(subject)

    def took(self, duration_s: float) -> None:
        """Report how long one call worked."""
        if duration_s > SLOW_S:
            self.threaded_left = THREADED_AFTER_SLOW
