"""Threads that take turns at reading the kernel's requests.

Whoever has the turn reads one request after the other and handles those that are quick at once:
handing a request to another thread costs more than most requests take. Before one that may take
long it gives the turn to another thread, and takes its place again afterwards. So usually a single
thread is busy, and nobody fights for the interpreter's lock.

    member: wait for the turn -> read -> handle -> read -> handle ... give up the turn -> handle

Invariants
- At most one thread has the turn; that two may be reading for a moment, when a watch took the turn
  of one that had just become quick again, harms nobody.
- Calls that come together for one key are made once (`Rounds`), and nobody is answered by a call
  that began before he asked.

Locks: `_turn` is the turn itself. `_lock` of each class guards its counts; memory only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from time import monotonic

END_DEADLINE_S = 5.0
"""How long the end waits for calls under way. What hangs in a dying device is left behind."""


class Turn:
    """One thread's place in the crew. `buffer` is its own, to read requests into."""

    __slots__ = ("_crew", "buffer", "is_mine", "view")

    def __init__(self, crew: Crew, buffer_size_bytes: int) -> None:
        self._crew = crew
        self.buffer = bytearray(buffer_size_bytes)
        self.view = memoryview(self.buffer)
        self.is_mine = False

    def give_up(self) -> None:
        """Let somebody else read on. From any thread; nothing happens without the turn."""
        self._crew.pass_on(self)


class Crew:
    """`serve(turn)` reads and handles one request; False when there will be no more."""

    def __init__(
        self, serve: Callable[[Turn], bool], *, count_max: int, buffer_size_bytes: int
    ) -> None:
        self._serve = serve
        self._count_max = count_max
        self._buffer_size_bytes = buffer_size_bytes
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting_count = 0
        self._threads: list[threading.Thread] = []
        self._is_over = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Until `serve` says False. Raises what it raised. The calling thread is none of the crew:
        the end must not wait for a handler that is stuck."""
        with self._lock:
            first = self._new_thread()
        first.start()
        self._is_over.wait()
        until_s = monotonic() + END_DEADLINE_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - monotonic()))
        if self._error is not None:
            raise self._error

    @property
    def is_deserted(self) -> bool:
        """Whether, after `run`, no thread is left behind in a handler."""
        return not any(thread.is_alive() for thread in self._threads)

    def pass_on(self, turn: Turn) -> None:
        """See `Turn.give_up`."""
        new: threading.Thread | None = None
        with self._lock:
            if not turn.is_mine:
                return
            turn.is_mine = False
            if not self._waiting_count and not self._is_over.is_set():
                new = self._new_thread() if len(self._threads) < self._count_max else None
        self._turn.release()
        if new is not None:
            new.start()

    def _new_thread(self) -> threading.Thread:
        # Daemons: one that is stuck in a dying device must not keep the process alive.
        name = f"fuse-{len(self._threads)}"
        self._threads.append(threading.Thread(target=self._member, name=name, daemon=True))
        return self._threads[-1]

    def _member(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  # `run` raises it
            self._error = error
        self._is_over.set()

    def _work(self) -> None:
        """Returns when there will be no more requests."""
        turn = Turn(self, self._buffer_size_bytes)
        while not self._is_over.is_set():
            with self._lock:
                self._waiting_count += 1
            self._turn.acquire()
            with self._lock:
                self._waiting_count -= 1
                turn.is_mine = True
            try:
                while turn.is_mine and not self._is_over.is_set():
                    if not self._serve(turn):
                        self._is_over.set()
            except BaseException:
                # Before the turn is passed on: nobody is to go on with a crew that fails.
                self._is_over.set()
                raise
            finally:
                turn.give_up()


class _Round:
    """One call, and the one after it for those who ask meanwhile."""

    __slots__ = ("before", "error", "next", "over")

    def __init__(self, before: _Round | None) -> None:
        self.before = before
        self.next: _Round | None = None
        self.error: Exception | None = None
        self.over = threading.Event()


class Rounds:
    """One call at a time for each key; calls for different keys run beside each other. See
    `fusefs.rounds`, which does it in an event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, _Round] = {}

    def join(self, key: Hashable, call: Callable[[], None]) -> None:
        """Returns when a call that began after this one did is over. Raises what it raised."""
        with self._lock:
            running = self._running.get(key)
            mine = None if running is None else running.next
            leads = mine is None
            if mine is None:
                mine = _Round(running)
                if running is None:
                    self._running[key] = mine
                else:
                    running.next = mine
        if leads:
            self._lead(key, mine, call)
        else:
            mine.over.wait()
        if mine.error is not None:
            raise mine.error

    def _lead(self, key: Hashable, mine: _Round, call: Callable[[], None]) -> None:
        if mine.before is not None:
            mine.before.over.wait()
            mine.before = None
        try:
            call()
        except Exception as error:  # noqa: BLE001  # it is everybody's who waited for this call
            mine.error = error
        with self._lock:
            if mine.next is None:
                del self._running[key]
            else:
                self._running[key] = mine.next
        mine.over.set()
