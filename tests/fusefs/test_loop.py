"""The event loop: what pyfuse3 may rely on, and that no wake-up and no failure is lost."""

import os
import threading
import time

import pyfuse3
import pytest

from fusefs import loop as loops
from fusefs.loop import ClosedResourceError, Loop


@pytest.fixture
def loop():
    return Loop(worker_count=4)


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def run_all(loop, *functions):
    """Run them side by side in a nursery, as pyfuse3's main does with its readers."""

    async def main():
        async with loops.Nursery(loop) as nursery:
            for function in functions:
                nursery.start_soon(function)

    loop.run(main())


def test_main_ends_when_everything_it_started_has(loop):
    ended = []

    async def child():
        await loop.in_thread(lambda: time.sleep(0.02), 10)
        ended.append("child")

    async def main():
        async with loops.Nursery(loop) as nursery:
            nursery.start_soon(child, name="child")
        ended.append("main")

    loop.run(main())
    assert ended == ["child", "main"]


def test_a_nursery_without_tasks_ends_at_once(loop):
    run_all(loop)


def test_the_current_task_has_the_name_it_was_given(loop):
    loops.install(loop)
    seen = []

    async def child():
        seen.append(pyfuse3.trio.lowlevel.current_task().name)

    async def main():
        async with pyfuse3.trio.open_nursery() as nursery:
            nursery.start_soon(child, name="pyfuse-01")

    loop.run(main())
    assert seen == ["pyfuse-01"]
    assert pyfuse3.trio.lowlevel.current_trio_token() is loop


def test_an_exception_in_a_task_ends_the_run(loop):
    cleaned = []

    async def fails():
        raise KeyError("x")

    async def waits():
        try:
            await loops._SUSPEND
        finally:
            cleaned.append(True)

    with pytest.raises(KeyError):
        run_all(loop, waits, fails)
    assert cleaned == [True]


def test_readiness_wakes_the_reader(loop, pipe):
    reading, writing = pipe
    got = []

    async def reader():
        for _ in range(3):
            await loop.wait_readable(reading)
            got.append(os.read(reading, 1))

    threading.Timer(0.02, os.write, (writing, b"abc")).start()
    run_all(loop, reader)
    assert got == [b"a", b"b", b"c"]


def test_closing_the_descriptor_wakes_the_reader_with_an_error(loop, pipe):
    reading, _ = pipe
    woken = []

    async def reader():
        try:
            await loop.wait_readable(reading)
        except ClosedResourceError:
            woken.append(True)

    threading.Timer(0.02, lambda: loop.call_soon(lambda: loop.notify_closing(reading))).start()
    run_all(loop, reader)
    assert woken == [True]


def test_closing_without_a_reader_is_nothing(loop, pipe):
    loop.notify_closing(pipe[0])


def test_calls_from_threads_all_arrive_in_order(loop):
    arrived = []

    def send():
        for number in range(2000):
            loop.call_soon(lambda number=number: arrived.append(number))

    async def waits():
        while len(arrived) < 2000:
            await loop.in_thread(lambda: None, 10)

    thread = threading.Thread(target=send)
    thread.start()
    run_all(loop, waits)
    thread.join()
    assert arrived == list(range(2000))


def test_a_call_after_the_end_is_dropped(loop):
    run_all(loop)
    loop.call_soon(lambda: pytest.fail("called"))


# ------------------------------------------------------------------------------ threads


def test_calls_in_threads_run_beside_each_other_and_the_loop(loop):
    together = threading.Barrier(3, timeout=5)
    reached = []

    async def call():
        assert await loop.in_thread(together.wait, 10)
        reached.append(True)

    run_all(loop, call, call, call)
    assert len(reached) == 3


def test_more_calls_than_workers_wait_for_their_turn(loop):
    running, most = set(), []
    guard = threading.Lock()

    def work():
        me = object()
        with guard:
            running.add(me)
            most.append(len(running))
        time.sleep(0.002)
        with guard:
            running.discard(me)

    async def call():
        assert await loop.in_thread(work, 10)

    run_all(loop, *[call] * 40)
    assert len(most) == 40
    assert max(most) <= 4


def test_every_call_is_answered_exactly_once_under_load(loop):
    answered = []

    async def caller():
        for number in range(200):
            box = []
            assert await loop.in_thread(lambda box=box, number=number: box.append(number), 10)
            answered.append(box == [number])

    run_all(loop, *[caller] * 10)
    assert len(answered) == 2000 and all(answered)


def test_a_call_past_its_deadline_is_given_up_and_others_go_on(loop, monkeypatch):
    monkeypatch.setattr(loops, "DEADLINE_STEP_S", 0.01)
    stuck = threading.Event()
    outcome = {}

    async def slow():
        started = time.monotonic()
        outcome["slow"] = await loop.in_thread(lambda: stuck.wait(5) and None, 0.05)
        outcome["after_s"] = time.monotonic() - started

    async def quick():
        outcome["quick"] = await loop.in_thread(lambda: None, 5)
        outcome["quick_first"] = "slow" not in outcome

    run_all(loop, slow, quick)
    stuck.set()
    assert outcome["slow"] is False
    assert outcome["after_s"] < 3
    assert outcome["quick"] is True and outcome["quick_first"]


def test_a_late_answer_wakes_nobody(loop, monkeypatch):
    monkeypatch.setattr(loops, "DEADLINE_STEP_S", 0.01)
    woken = []

    async def gives_up():
        woken.append(await loop.in_thread(lambda: time.sleep(0.1), 0.02))
        woken.extend([await loop.in_thread(lambda: time.sleep(0.01), 5) for _ in range(20)])

    run_all(loop, gives_up)
    assert woken == [False] + [True] * 20


# -------------------------------------------------------------------------------- the lock


def test_the_lock_lets_one_in_at_a_time_and_forgets_nobody(loop):
    lock = loops.Lock(loop)
    inside, order = [], []

    def worker(number):
        async def work():
            for _ in range(5):
                async with lock:
                    inside.append(number)
                    assert len(inside) == 1
                    await loop.in_thread(lambda: None, 10)
                    inside.remove(number)
                    order.append(number)
                await loop.in_thread(lambda: None, 10)

        return work

    run_all(loop, *[worker(number) for number in range(6)])
    assert sorted(order) == sorted(list(range(6)) * 5)


def test_whoever_takes_the_lock_again_at_once_wakes_nobody(loop):
    lock = loops.Lock(loop)
    order = []

    async def first():
        async with lock:
            await loop.in_thread(lambda: time.sleep(0.01), 10)
            order.append("first")
        async with lock:
            order.append("first again")

    async def second():
        async with lock:
            order.append("second")

    run_all(loop, first, second)
    assert order == ["first", "first again", "second"]


def test_an_error_inside_the_lock_releases_it(loop):
    lock = loops.Lock(loop)
    entered = []

    async def fails():
        try:
            async with lock:
                raise KeyError("x")
        except KeyError:
            pass

    async def next_one():
        async with lock:
            entered.append(True)

    run_all(loop, fails, next_one)
    assert entered == [True]
