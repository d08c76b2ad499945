"""Writes that go on while their caller prepares the next one.

A stream of large groups needs two things in turn: the processor, for checksums and headers, and the
device. One after the other, each waits for the other; with a write on its way in a thread of its
own, both are busy. The log decides what may go behind it (`blkdev/log.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class ThreadedWriting:
    """A write in a thread, from its beginning on.

    The thread is a daemon: a device that never answers must not keep a process alive.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        """Raises RuntimeError when the system has no thread to give."""
        self._error: Exception | None = None
        name = "write-behind"
        self._thread = threading.Thread(target=self._run, args=(write,), name=name, daemon=True)
        self._thread.start()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001  # it is raised where the write is waited for
            self._error = error

    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        """Returns when the write is over, whatever came of it; in a fork at once."""
        self._thread.join()

    def wait(self) -> None:
        self.end()
        if self._error is not None:
            raise self._error
