"""Rounds: who shares a call, who may not, and that everybody gets its outcome."""

import threading

import pytest

from fusefs import loop as loops
from fusefs.loop import Loop
from fusefs.rounds import Rounds


class Calls:
    """Calls that last until they are let go, in the order in which they began."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.began: list[str] = []
        self.ended: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.failing: set[str] = set()

    async def call(self, name: str) -> None:
        self.began.append(name)
        gate = self.gates.setdefault(name, threading.Event())

        def wait() -> None:
            gate.wait(10)

        await self._loop.in_thread(wait, 20)
        self.ended.append(name)
        if name in self.failing:
            raise OSError(name)


@pytest.fixture
def loop():
    return Loop(worker_count=8)


@pytest.fixture
def calls(loop):
    return Calls(loop)


def run(loop, rounds, calls, arrivals, conduct):
    """Each of `arrivals` (name, key) joins in turn; `conduct` opens gates meanwhile. What every
    one of them got, in the order in which they were answered."""
    answered: list[tuple[str, str | None]] = []

    async def arrive(name, key):
        try:
            await rounds.join(key, lambda: calls.call(name))
        except OSError as error:
            answered.append((name, str(error)))
        else:
            answered.append((name, None))

    async def main():
        async with loops.Nursery(loop) as nursery:
            for name, key in arrivals:
                nursery.start_soon(arrive, name, key)
            await conduct()

    loop.run(main())
    return answered


def gate_opener(loop, calls, *names):
    """Opens the gates one after the other, each when its call has begun and the last is over."""

    async def until_in(name, names):
        while name not in names:
            await loop.in_thread(lambda: threading.Event().wait(0.001) and None, 5)

    async def conduct():
        for name in names:
            await until_in(name, calls.began)
            calls.gates[name].set()
            await until_in(name, calls.ended)

    return conduct


def test_who_comes_alone_makes_his_own_call(loop, calls):
    arrivals = [("a", 1)]
    answered = run(loop, Rounds(loop), calls, arrivals, gate_opener(loop, calls, "a"))
    assert answered == [("a", None)]
    assert calls.began == ["a"]


def test_those_who_come_during_a_call_share_the_next_one_and_not_this_one(loop, calls):
    arrivals = [(name, 1) for name in "abcdefgh"]
    answered = run(loop, Rounds(loop), calls, arrivals, gate_opener(loop, calls, "a", "b"))
    assert calls.began == ["a", "b"]
    assert answered[0] == ("a", None)
    assert sorted(answered) == [(name, None) for name in "abcdefgh"]


def test_nobody_is_answered_by_a_call_that_began_before_he_asked(loop, calls):
    rounds = Rounds(loop)
    seen: list[tuple[str, list[str]]] = []

    async def arrive(name):
        before = list(calls.began)
        await rounds.join(1, lambda: calls.call(name))
        after = [ended for ended in calls.ended if ended not in before]
        seen.append((name, after))

    async def main():
        async with loops.Nursery(loop) as nursery:
            nursery.start_soon(arrive, "a")
            nursery.start_soon(arrive, "b")
            await gate_opener(loop, calls, "a")()
            while "b" not in calls.began:
                await loop.in_thread(lambda: None, 5)
            nursery.start_soon(arrive, "c")  # while b's call, which is its own, is under way
            nursery.start_soon(arrive, "d")
            await gate_opener(loop, calls, "b", "c")()

    loop.run(main())
    assert calls.began == ["a", "b", "c"]
    assert len(seen) == 4
    assert all(after for _, after in seen), seen


def test_a_failure_is_everybodys_who_waited_for_that_call_and_nobody_elses(loop, calls):
    calls.failing = {"b"}
    arrivals = [(name, 1) for name in "abc"]
    answered = run(loop, Rounds(loop), calls, arrivals, gate_opener(loop, calls, "a", "b"))
    assert sorted(answered) == [("a", None), ("b", "b"), ("c", "b")]


def test_after_a_failed_call_the_next_one_is_made(loop, calls):
    calls.failing = {"a"}
    arrivals = [(name, 1) for name in "abc"]
    answered = run(loop, Rounds(loop), calls, arrivals, gate_opener(loop, calls, "a", "b"))
    assert sorted(answered) == [("a", "a"), ("b", None), ("c", None)]


def test_calls_for_other_things_run_beside_each_other(loop, calls):
    arrivals = [("a", 1), ("b", 2), ("c", 3)]
    answered = run(loop, Rounds(loop), calls, arrivals, gate_opener(loop, calls, "c", "b", "a"))
    assert [name for name, _ in answered] == ["c", "b", "a"]


def test_nothing_is_remembered_when_all_are_answered(loop, calls):
    rounds = Rounds(loop)
    calls.failing = {"b"}
    arrivals = [(name, key) for key in (1, 2) for name in ("a", "b", "c")]
    run(loop, rounds, calls, arrivals, gate_opener(loop, calls, "a", "b"))
    assert rounds._next == {}


def test_who_is_left_when_the_loop_ends_is_not_told_that_it_worked(loop):
    rounds = Rounds(loop)
    answered: list[str] = []

    async def never():
        await loop.suspend()

    async def arrive(name):
        await rounds.join(1, never)
        answered.append(name)

    async def fails():
        raise KeyError("the end")

    async def main():
        async with loops.Nursery(loop) as nursery:
            for name in "abc":
                nursery.start_soon(arrive, name)
            nursery.start_soon(fails)

    with pytest.raises(KeyError, match="the end"):
        loop.run(main())
    assert answered == []
