"""An event loop for one FUSE session: what pyfuse3 needs of one, and no more.

pyfuse3 is written for trio and reaches it through one module global, which its own asyncio support
replaces; `install` does the same. A general event loop spends more time on a request than the file
system does. This one knows that there is a single descriptor to wait for, that most handlers end
without waiting, and that the next reader of the session is nearly always the last one.

Invariants:
- Tasks run in the thread of `run`, one at a time, and only change hands where they await.
- A call handed to a thread wakes its task exactly once: with its outcome, or at its deadline.
- If a task ends with an exception, `run` ends with it; nothing is left half alive.

Thread-safe: `call_soon`. All else belongs to the loop's thread.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from queue import SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Any

import pyfuse3

from fusefs.patience import Patience

Work = Callable[[], None]

DEADLINE_STEP_S = 0.1
"""How late a deadline may be noticed."""


class ClosedResourceError(Exception):
    """The descriptor somebody waits for is about to be closed."""


class Task:
    """A coroutine on its way."""

    __slots__ = ("coroutine", "name")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        self.coroutine = coroutine
        self.name = name


class _Suspend:
    """Await it to give up the thread until somebody makes the task ready again."""

    __slots__ = ()

    def __await__(self) -> Generator[None, BaseException | None, None]:
        error = yield
        if error is not None:
            raise error


_SUSPEND = _Suspend()


class Lock:
    """Guards the reading of the session. Uncontended in the usual case, where the task that has
    just handled a request is also the one that waits for the next."""

    __slots__ = ("_held", "_loop", "_waiting")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held = False
        self._waiting: deque[Task] = deque()

    async def __aenter__(self) -> None:
        if self._held:
            self._waiting.append(self._loop.current)
            await _SUSPEND  # `pass_on` hands over the lock, still held
        else:
            self._held = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held = False
        if self._waiting:
            self._loop.released.append(self)

    def pass_on(self) -> None:
        """The task that released it has suspended: if it did not take it again, the next may."""
        if self._waiting and not self._held:
            self._held = True
            self._loop.ready.append((self._waiting.popleft(), None))


class Nursery:
    """Starts tasks and waits for all of them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._living = 0
        self._waiting: Task | None = None

    async def __aenter__(self) -> Nursery:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None and self._living:
            self._waiting = self._loop.current
            await _SUSPEND

    def start_soon(
        self, function: Callable[..., Awaitable[object]], *args: object, name: str = "task"
    ) -> None:
        self._living += 1
        self._loop.start(self._run(function, args), name)

    async def _run(
        self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        await function(*args)
        self._living -= 1
        if not self._living and self._waiting is not None:
            self._loop.ready.append((self._waiting, None))


class Loop:
    """Runs one coroutine and all that it starts."""

    def __init__(self, worker_count: int) -> None:
        self.ready: deque[tuple[Task, BaseException | None]] = deque()
        self.released: list[Lock] = []
        self.current: Task
        """The one that runs, while one runs."""
        self._tasks: set[Task] = set()
        self._reader: Task | None = None
        self._descriptor = -1
        self._workers = Workers(worker_count)
        self._poll = select.poll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.POLLIN)
        self._wake_lock = threading.Lock()
        """Between a worker that writes to `_wake` and the end of the loop that closes it."""
        self._sleeping = False
        self._soon: deque[Work] = deque()
        self._calls: set[_Call] = set()
        self._next_expiry = 0.0
        self._patience = Patience(self._poll)

    # ------------------------------------------------------------------------- running

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Until `main` and everything it started are done. Raises what a task raises."""
        try:
            self.start(main, "main")
            while self._tasks:
                while self.ready:
                    self._step(*self.ready.popleft())
                if self._tasks:
                    self._wait()
        finally:
            for task in self._tasks:
                task.coroutine.close()
            self._tasks.clear()
            self._workers.stop()
            with self._wake_lock:
                os.close(self._wake)
                self._wake = -1

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        task = Task(coroutine, name)
        self._tasks.add(task)
        self.ready.append((task, None))

    def call_soon(self, work: Work) -> None:
        """Run `work` in the loop's thread. From any thread; lost when the loop is over."""
        self._soon.append(work)
        if self._sleeping:
            with self._wake_lock:
                if self._wake >= 0:
                    os.eventfd_write(self._wake, 1)

    def _step(self, task: Task, error: BaseException | None) -> None:
        self.current = task
        try:
            task.coroutine.send(error)
        except StopIteration:
            self._tasks.discard(task)
        except BaseException:
            self._tasks.discard(task)
            raise
        while self.released:
            self.released.pop().pass_on()

    def _wait(self) -> None:
        # Whoever appends to `_soon` looks at `_sleeping` afterwards, so one of the two sees the
        # other: either nothing is slept through, or the wake-up is written.
        self._sleeping = True
        timeout_ms: float | None = None
        if self._soon:
            timeout_ms = 0
        elif self._calls:
            timeout_ms = DEADLINE_STEP_S * 1000
        # Asking is not for a time when a call is in a thread, which needs the interpreter.
        events = self._patience.events(timeout_ms, may_ask=not self._calls)
        self._sleeping = False
        for descriptor, _ in events:
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif self._reader is not None:
                self.ready.append((self._reader, None))
                self._reader = None
        while self._soon:
            self._soon.popleft()()
        if self._calls:
            self._expire()

    # ------------------------------------------------------------------------- waiting

    async def wait_readable(self, descriptor: int) -> None:
        """For the one descriptor of the session, and one task at a time."""
        if descriptor != self._descriptor:
            self._descriptor = descriptor
            self._poll.register(descriptor, select.POLLIN)
        self._reader = self.current
        await _SUSPEND

    def notify_closing(self, descriptor: int) -> None:
        """Whoever waits for the descriptor gets ClosedResourceError."""
        if self._reader is not None and descriptor == self._descriptor:
            self.ready.append((self._reader, ClosedResourceError()))
            self._reader = None

    async def suspend(self) -> None:
        """Wait until somebody resumes the current task. Raises what he passes on."""
        await _SUSPEND

    def resume(self, task: Task, error: BaseException | None = None) -> None:
        """Let a task that has suspended itself go on, once."""
        self.ready.append((task, error))

    async def in_thread(self, work: Work, deadline_s: float) -> bool:
        """Run `work`, which raises nothing, in a worker. False if the deadline came first: then
        `work` goes on, and nobody waits for it."""
        call = _Call(self.current, monotonic() + deadline_s)
        self._calls.add(call)

        def run() -> None:
            work()
            self.call_soon(lambda: self._answer(call, True))

        self._workers.submit(run)
        await _SUSPEND
        return call.in_time

    def _answer(self, call: _Call, in_time: bool) -> None:
        if in_time:
            self._workers.unfinished -= 1
        if call in self._calls:
            self._calls.remove(call)
            call.in_time = in_time
            self.ready.append((call.task, None))

    def _expire(self) -> None:
        """Look for deadlines that are over: rarely, because hardly any ever is."""
        now = monotonic()
        if now < self._next_expiry:
            return
        self._next_expiry = now + DEADLINE_STEP_S
        for call in [call for call in self._calls if call.deadline <= now]:
            self._answer(call, False)


class _Call:
    """A call in a worker, and the task that waits for it."""

    __slots__ = ("deadline", "in_time", "task")

    def __init__(self, task: Task, deadline: float) -> None:
        self.task = task
        self.deadline = deadline
        self.in_time = False


class Workers:
    """Threads that are started when all others are busy, and kept.

    They are daemons: one that is stuck in a dying device must not keep the process alive.
    """

    def __init__(self, count: int) -> None:
        self.unfinished = 0
        """Calls submitted and not yet answered; only the loop's thread counts."""
        self._count = count
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Work) -> None:
        self.unfinished += 1
        if self.unfinished > len(self._threads) < self._count:
            name = f"fuse-worker-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        self._queue.put(work)

    def stop(self) -> None:
        """Let the threads end when they have done what was submitted."""
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


class _LowLevel:
    """`trio.lowlevel`, as far as pyfuse3 uses it."""

    def __init__(self, loop: Loop) -> None:
        self.wait_readable = loop.wait_readable
        self.notify_closing = loop.notify_closing
        self._loop = loop

    def current_task(self) -> Task:
        return self._loop.current

    def current_trio_token(self) -> Loop:
        return self._loop


class _Trio:
    """`trio`, as far as pyfuse3 uses it."""

    ClosedResourceError = ClosedResourceError

    def __init__(self, loop: Loop) -> None:
        self.lowlevel = _LowLevel(loop)
        self._loop = loop

    def Lock(self) -> Lock:  # noqa: N802  # the name pyfuse3 calls
        return Lock(self._loop)

    def open_nursery(self) -> Nursery:
        return Nursery(self._loop)


def install(loop: Loop) -> None:
    """Make pyfuse3 use `loop`, as its own `pyfuse3.asyncio` makes it use another one."""
    pyfuse3.trio = _Trio(loop)  # type: ignore[attr-defined]  # a C module's global, not in its stubs
