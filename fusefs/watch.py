"""Looks after requests that take long: so that others are served meanwhile, and nobody waits for
ever.

A process that waits for an answer cannot be killed. So every request has a deadline, after which it
is answered with an error. One whose process was sent a signal is looked at every second: if the
signal is its end, the request is answered at once. Any other signal changes nothing, as on a local
file system: an `fsync` that fails because an alarm went off would be taken for lost data.

The watch sleeps while nothing is being worked on; beside a busy mount it looks up now and then.

Invariant: a request may be answered twice, by its handler and by the watch: the kernel refuses the
second answer, and the handler then takes back what it did (`transport_kernel`).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from fusefs.crew import Turn

PERIOD_S = 0.05
TURN_S = 0.05
"""How long a thread may work on a request and keep the turn to read."""
INTERRUPTED_PERIOD_S = 1.0
"""After a signal to the process that waits: most calls end within that."""
_NEVER_S = float("inf")
_KILL_BIT = 1 << 8
"""Of SIGKILL in the masks of /proc/PID/status. The kernel adds it to every signal that is a
process's end."""

Work = tuple[Turn, float, float, int, float]
"""A request that is being handled: whose turn it was, when it began, when it is refused, the
process that waits for it, and when to look at that. Made for every request, and a plain tuple is
made at once.
"""


class Watch:
    """Runs in a thread of its own from `start` to `stop`. `refuse` answers with an error."""

    def __init__(self, refuse: Callable[[int, int], None]) -> None:
        self._refuse = refuse
        self._working: dict[int, Work] = {}
        self._is_dozing = False
        self._wake = threading.Event()
        self._is_over = False
        self.timeouts = 0
        self._thread = threading.Thread(target=self._run, name="fuse-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Also when it was never started."""
        self._is_over = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being worked on."""
        return not self._working

    def begin(self, unique: int, turn: Turn, now_s: float, seconds: float, pid: int) -> None:
        """A request is being worked on from now on (`monotonic`), for so many seconds at most."""
        self._working[unique] = (turn, now_s, now_s + seconds, pid, _NEVER_S)
        if self._is_dozing:
            self._is_dozing = False
            self._wake.set()

    def end(self, unique: int) -> None:
        """The handler is done with it."""
        self._working.pop(unique, None)

    def interrupt(self, unique: int) -> bool:
        """Somebody sent the process a signal; False when nobody works on that request."""
        work = self._working.get(unique)
        if work is None:
            return False
        self._working[unique] = (*work[:4], monotonic() + INTERRUPTED_PERIOD_S)
        return True

    def _run(self) -> None:
        while not self._is_over:
            if not self._working:
                self._wake.clear()
                # Whoever begins a request looks at this afterwards: one of the two sees the other.
                self._is_dozing = True
                if not self._working and not self._is_over:
                    self._wake.wait()
                self._is_dozing = False
            self._wake.clear()
            if not self._is_over:
                self._wake.wait(PERIOD_S)
                self._look()

    def _look(self) -> None:
        now_s = monotonic()
        for unique, (turn, began_s, deadline_s, pid, look_s) in self._working.copy().items():
            if now_s - began_s > TURN_S:
                turn.give_up()
            if now_s >= deadline_s:
                self._give_up_on(unique, errno.ETIMEDOUT)
            elif now_s >= look_s and is_killed(pid):
                self._give_up_on(unique, errno.EINTR)
            elif now_s >= look_s and unique in self._working:
                again_s = now_s + INTERRUPTED_PERIOD_S
                self._working[unique] = (turn, began_s, deadline_s, pid, again_s)

    def _give_up_on(self, unique: int, code: int) -> None:
        if self._working.pop(unique, None) is not None:
            self.timeouts += code == errno.ETIMEDOUT
            self._refuse(unique, code)


def is_killed(pid: int) -> bool:
    """Whether the process is about to end by a signal, and waits for nothing but its request."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask & _KILL_BIT for mask in pending)
