"""Threads that take turns, calls that are made once for many, and the watch over slow ones."""

import errno
import os
import threading
import time
from queue import SimpleQueue

import pytest

from fusefs import watch as watching
from fusefs.crew import Crew, Rounds, Turn
from fusefs.watch import INTERRUPTED_PERIOD_S, PERIOD_S, Watch, is_killed

WAIT_S = 20.0


class Requests:
    """A crew that serves functions from a queue; None ends it."""

    def __init__(self, count_max: int = 4) -> None:
        self.queue: SimpleQueue = SimpleQueue()
        self.reading = 0
        self.reading_max = 0
        self._lock = threading.Lock()
        self.crew = Crew(self._serve, count_max=count_max, buffer_size_bytes=64)
        self.thread = threading.Thread(target=self.crew.run)
        self.thread.start()

    def _serve(self, turn: Turn) -> bool:
        with self._lock:
            self.reading += 1
            self.reading_max = max(self.reading, self.reading_max)
        work = self.queue.get()
        with self._lock:
            self.reading -= 1
        if work is None:
            return False
        work(turn)
        return True

    def end(self) -> None:
        self.queue.put(None)
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


def test_quick_requests_are_all_handled_by_one_thread():
    requests, seen = Requests(), []
    for _ in range(50):
        requests.queue.put(lambda _turn: seen.append(threading.get_ident()))
    requests.end()
    assert len(seen) == 50
    assert len(set(seen)) == 1


def test_slow_request_that_gives_up_its_turn_holds_up_nobody():
    requests, go_on, done = Requests(), threading.Event(), threading.Event()

    def slow(turn: Turn) -> None:
        turn.give_up()
        assert go_on.wait(WAIT_S)

    for _ in range(3):
        requests.queue.put(slow)
    requests.queue.put(lambda _turn: done.set())
    assert done.wait(WAIT_S)
    go_on.set()
    requests.end()
    assert requests.reading_max == 1


def test_no_more_threads_are_made_than_allowed_and_all_requests_are_served():
    requests, busy, most, lock = Requests(count_max=3), [], [0], threading.Lock()

    def slow(turn: Turn) -> None:
        turn.give_up()
        with lock:
            busy.append(1)
            most[0] = max(most[0], len(busy))
        time.sleep(0.01)
        with lock:
            busy.pop()

    for _ in range(30):
        requests.queue.put(slow)
    requests.end()
    assert most[0] == 3


def test_turn_that_is_given_up_twice_or_from_outside_is_given_up_once():
    requests, done = Requests(), threading.Event()

    def twice(turn: Turn) -> None:
        turn.give_up()
        turn.give_up()
        taker = threading.Thread(target=turn.give_up)
        taker.start()
        taker.join()

    for _ in range(20):
        requests.queue.put(twice)
    requests.queue.put(lambda _turn: done.set())
    assert done.wait(WAIT_S)
    requests.end()
    assert requests.reading_max == 1


def test_crew_ends_with_the_failure_of_one_of_its_threads():
    """It is a bug of ours: the mount is to end, and say so."""
    crew = Crew(lambda _turn: 1 / 0 == 0, count_max=3, buffer_size_bytes=1)
    with pytest.raises(ZeroDivisionError):
        crew.run()
    assert crew.is_deserted


@pytest.mark.parametrize("stuck_count", [1, 3])
def test_the_end_waits_for_nobody_who_is_stuck(monkeypatch, stuck_count):
    monkeypatch.setattr("fusefs.crew.END_DEADLINE_S", 0.1)
    requests, go_on = Requests(), threading.Event()

    def hang(turn: Turn) -> None:
        turn.give_up()
        go_on.wait(WAIT_S)

    for _ in range(stuck_count):
        requests.queue.put(hang)
    requests.end()
    assert not requests.crew.is_deserted
    go_on.set()
    for thread in requests.crew._threads:
        thread.join(WAIT_S)
    assert requests.crew.is_deserted


# ------------------------------------------------------------------------------------ rounds


def started(count: int, call) -> list[threading.Thread]:
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_calls_that_come_while_one_is_under_way_share_the_next():
    rounds, calls, gate = Rounds(), [], threading.Event()

    def call() -> None:
        calls.append(1)
        assert gate.wait(WAIT_S)

    threads = started(1, lambda: rounds.join("key", call))
    while not calls:
        time.sleep(0.001)
    threads += started(6, lambda: rounds.join("key", call))
    time.sleep(0.1)
    gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(calls) == 2


def test_nobody_is_answered_by_a_call_that_began_before_he_asked():
    rounds, lock = Rounds(), threading.Lock()
    begun, wrong = [0], []

    def call() -> None:
        with lock:
            begun[0] += 1
        time.sleep(0.002)

    def ask() -> None:
        for _ in range(20):
            before = begun[0]
            rounds.join("key", call)
            if begun[0] <= before:
                wrong.append(before)

    for thread in started(8, ask):
        thread.join(WAIT_S)
    assert wrong == []
    assert begun[0] < 160
    assert rounds._running == {}


def test_rounds_of_different_keys_run_beside_each_other():
    rounds, gate = Rounds(), threading.Barrier(2, timeout=WAIT_S)

    def meet() -> None:
        gate.wait()

    threads = started(1, lambda: rounds.join("a", meet))
    rounds.join("b", meet)
    threads[0].join(WAIT_S)


def test_a_call_that_fails_fails_for_all_it_was_made_for_and_the_next_is_made():
    rounds, failed = Rounds(), []

    def fail() -> None:
        time.sleep(0.05)
        raise OSError(errno.EIO, "the device")

    def ask() -> None:
        try:
            rounds.join("key", fail)
        except OSError as error:
            failed.append(error.errno)

    for thread in started(5, ask):
        thread.join(WAIT_S)
    assert failed == [errno.EIO] * 5
    rounds.join("key", lambda: None)


# ------------------------------------------------------------------------------------ watch


class Refusals:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.came = threading.Event()

    def __call__(self, unique: int, code: int) -> None:
        self.seen.append((unique, code))
        self.came.set()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def watch(refusals):
    watch = Watch(refusals)
    watch.start()
    yield watch
    watch.stop()


@pytest.fixture
def turn():
    crew = Crew(lambda _turn: False, count_max=1, buffer_size_bytes=1)
    return Turn(crew, 1)


def test_request_past_its_deadline_is_refused_once(watch, refusals, turn):
    watch.begin(1, turn, time.monotonic(), 0.1, 1)
    watch.begin(2, turn, time.monotonic(), 100, 1)
    assert refusals.came.wait(WAIT_S)
    time.sleep(4 * PERIOD_S)
    assert refusals.seen == [(1, errno.ETIMEDOUT)]
    assert watch.timeouts == 1


def test_request_that_ends_in_time_is_not_refused(watch, refusals, turn):
    for unique in range(100):
        watch.begin(unique, turn, time.monotonic(), 0.01, 1)
        watch.end(unique)
    time.sleep(3 * PERIOD_S)
    assert refusals.seen == []


def test_request_of_a_process_that_was_killed_is_refused_soon(watch, refusals, turn, monkeypatch):
    monkeypatch.setattr(watching, "is_killed", lambda pid: pid == 1)
    watch.begin(1, turn, time.monotonic(), 300, 1)
    assert watch.interrupt(1)
    assert not watch.interrupt(2)
    assert refusals.came.wait(INTERRUPTED_PERIOD_S + WAIT_S)
    assert refusals.seen == [(1, errno.EINTR)]
    assert watch.timeouts == 0


def test_any_other_signal_changes_nothing_until_one_that_kills(watch, refusals, turn, monkeypatch):
    monkeypatch.setattr(watching, "INTERRUPTED_PERIOD_S", 0.1)
    looked, kills = [], []
    monkeypatch.setattr(watching, "is_killed", lambda pid: (looked.append(pid), bool(kills))[1])
    watch.begin(1, turn, time.monotonic(), 300, 77)
    watch.interrupt(1)
    while len(looked) < 3:
        time.sleep(PERIOD_S)
    assert refusals.seen == []
    kills.append(1)
    assert refusals.came.wait(WAIT_S)
    assert refusals.seen == [(1, errno.EINTR)]
    assert set(looked) == {77}


def test_interruption_makes_no_deadline_later(watch, refusals, turn):
    watch.begin(1, turn, time.monotonic(), 0.05, 1)
    watch.interrupt(1)
    assert refusals.came.wait(WAIT_S)
    assert refusals.seen == [(1, errno.ETIMEDOUT)]


def test_living_and_unknown_processes_are_not_killed():
    assert not is_killed(os.getpid())
    assert not is_killed(0)
    assert not is_killed(1 << 30)


def test_thread_that_works_for_long_loses_its_turn(watch):
    requests, done = Requests(), threading.Event()

    def slow(turn: Turn) -> None:
        watch.begin(1, turn, time.monotonic(), 100, 1)
        assert done.wait(WAIT_S)
        watch.end(1)

    requests.queue.put(slow)
    requests.queue.put(lambda _turn: done.set())
    assert done.wait(WAIT_S)
    requests.end()


def test_watch_wakes_up_for_every_request_that_follows_a_quiet_time(watch, refusals, turn):
    for unique in range(5):
        time.sleep(2 * PERIOD_S)
        refusals.came.clear()
        watch.begin(unique, turn, time.monotonic(), 0.0, 1)
        assert refusals.came.wait(WAIT_S)
    assert [unique for unique, _ in refusals.seen] == list(range(5))


def test_watch_that_was_never_started_can_be_stopped(refusals):
    Watch(refusals).stop()
