"""Calls that come together are made once: how many `fsync`s share one commit.

What one commit makes durable is everything that was done in a tree before it began. So whoever asks
while a commit is under way waits for the next one, together with all others who ask meanwhile, and
that one serves them all. It is group commit one layer higher than the store's: not only the flush
of the device is shared, but also the batch of the journal and the hand-over to a thread, which
costs more than the batch.

Invariant: nobody is answered by a call that began before he asked.

All of it belongs to the loop's thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable

from fusefs.loop import Loop, Task


class _Waiter:
    """Somebody who waits for the next round, and perhaps makes it."""

    __slots__ = ("followers", "leads", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.leads = False
        self.followers: list[_Waiter] = []


class Rounds:
    """One round at a time for each key; rounds of different keys run beside each other."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._next: dict[Hashable, list[_Waiter]] = {}
        """For every key with a round under way: who waits for the one after it."""

    async def join(self, key: Hashable, call: Callable[[], Awaitable[None]]) -> None:
        """Returns when a call that began after this one did is over, made by whoever came first
        among those that it serves. Raises what it raised.
        """
        followers: list[_Waiter] = []
        if key in self._next:
            waiter = _Waiter(self._loop.current)
            self._next[key].append(waiter)
            await self._loop.suspend()
            if not waiter.leads:
                return
            followers = waiter.followers
        else:
            self._next[key] = []
        failure: Exception | None = None
        try:
            await call()
        except Exception as error:  # noqa: BLE001  # it is everybody's who waited for this call
            failure = error
        self._begin_next(key)
        for follower in followers:
            self._loop.resume(follower.task, failure)
        if failure is not None:
            raise failure

    def _begin_next(self, key: Hashable) -> None:
        waiting = self._next[key]
        if not waiting:
            del self._next[key]
            return
        self._next[key] = []
        leader = waiting[0]
        leader.leads, leader.followers = True, waiting[1:]
        self._loop.resume(leader.task)
