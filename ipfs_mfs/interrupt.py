"""Ctrl-C and `kill` of a command: it cleans up, and it ends.

Python raises KeyboardInterrupt between any two instructions, also inside of a library that is not
made for it: after `threading.Condition` took its lock and before its `with` block began (which is
where a program of several threads is met most often), or in the middle of the start of a gRPC call.
Then another thread waits for a lock that nobody gives back, and cleaning up, which waits for that
thread, never ends. So an interrupt is raised

- where this package's own code runs, which begins, calls and ends everything else, but not after
  something was opened and before its `with` has it; and where a wait by `Condition.wait` goes on,
  which is made for it;
- else a moment later, at the next report of progress at the latest; after POSTPONED_MAX_S anywhere,
  because something unknown may be waiting;
- and when cleaning up has not ended after CLEAN_UP_MAX_S, the process ends as it is, which loses
  nothing: a store is ready for that at any moment.
"""

import os
import signal
import sys
import threading
import time
from itertools import islice
from types import FrameType
from typing import NoReturn

POSTPONED_MAX_S = 2.0
RETRY_INTERVAL_S = 0.01
CLEAN_UP_MAX_S = 120.0
_PACKAGE = __name__.partition(".")[0]
_ENTERING = frozenset({"BEFORE_WITH", "LOAD_SPECIAL"})
"""Instructions that enter a `with`: up to Python 3.13, and after a COPY since 3.14."""


class _Interrupts:
    """The state of this process, which has one set of signal handlers. Main thread only."""

    def __init__(self) -> None:
        self.has_come = False
        self._raise_by_s: float | None = None

    def take(self, _number: int, frame: FrameType | None) -> None:
        """Handler of the signals, and of the timer that asks again. Raises KeyboardInterrupt."""
        now_s = time.monotonic()
        if self._raise_by_s is None:
            self._raise_by_s = now_s + POSTPONED_MAX_S
        if _is_safe(frame) or now_s >= self._raise_by_s:
            self._raise()
        _ring_after(RETRY_INTERVAL_S, self.take)

    def check(self) -> None:
        due = self._raise_by_s is not None
        if due and threading.current_thread() is threading.main_thread():
            self._raise()

    def _raise(self) -> NoReturn:
        self.has_come = True
        self._raise_by_s = None
        _ring_after(CLEAN_UP_MAX_S, _give_up)
        raise KeyboardInterrupt


_INTERRUPTS = _Interrupts()


def install() -> None:
    """From now on. A signal that whoever started us ignores stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _INTERRUPTS.take)


def check() -> None:
    """Raises KeyboardInterrupt if one is due. For reports of progress."""
    _INTERRUPTS.check()


def end(status: int) -> NoReturn:
    """Ends the program. From here on signals and the timer would only hide its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    if _INTERRUPTS.has_come:
        # Python's own end waits for threads, and one may be stuck after an interrupt.
        try:
            sys.stdout.flush()
        finally:
            os._exit(status)
    sys.exit(status)


def _is_safe(frame: FrameType | None) -> bool:
    if frame is None:
        return True
    if frame.f_code is threading.Condition.wait.__code__:
        return True
    module: str = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in (_PACKAGE, "__main__") and not _is_before_with(frame)


def _is_before_with(frame: FrameType) -> bool:
    """Whether the next thing that happens is the entering of a `with`: what it is to close again
    is open already, and nobody else would.
    """
    import dis  # only for who is interrupted: it takes as long to import as some commands last

    following = (
        instruction.opname
        for instruction in dis.get_instructions(frame.f_code)
        if instruction.offset > frame.f_lasti
    )
    return not _ENTERING.isdisjoint(islice(following, 2))


def _ring_after(delay_s: float, handler: "signal._HANDLER") -> None:
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, delay_s)


def _give_up(_number: int, _frame: FrameType | None) -> NoReturn:
    message = "interrupted, and cleaning up did not end (what was reported as done is kept)"
    os.write(2, f"ipfs-mfs: {message}\n".encode())
    os._exit(1)
