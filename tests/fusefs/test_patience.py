"""Waiting for requests: when it is worth asking again before going to sleep."""

from typing import Any

import pytest

from fusefs import patience as patiences
from fusefs.patience import LUCK_MAX, RETRY_WAITS, Patience


class Poll:
    """Stands for `select.poll`: gives its answers one by one, notes what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.timeouts = []

    def poll(self, timeout_ms=None):
        self.timeouts.append(timeout_ms)
        return self.answers.pop(0) if self.answers else []


EVENT = [(3, 1)]


def waiting(poll: Any) -> Patience:
    return Patience(poll)


@pytest.fixture(autouse=True)
def still_clock(monkeypatch):
    """Each look at the clock is 10 µs after the last: a spin asks a few times and gives up."""
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(patiences, "perf_counter", lambda: next(ticks) * 10e-6)


def test_request_that_comes_at_once_is_taken_without_sleeping():
    poll = Poll([], [], EVENT)
    assert waiting(poll).events(None, may_ask=True) == EVENT
    assert poll.timeouts == [0, 0, 0]


def test_without_a_request_it_sleeps_until_its_deadline():
    poll = Poll()
    assert waiting(poll).events(None, may_ask=True) == []
    assert poll.timeouts[-1] is None
    assert 0 < poll.timeouts.count(0) < 10


def test_who_must_not_wait_asks_once():
    poll = Poll()
    assert waiting(poll).events(0, may_ask=True) == []
    assert poll.timeouts == [0]


def test_asking_in_vain_stops_and_is_tried_again_now_and_then():
    poll = Poll()
    patience = waiting(poll)

    def asked():
        poll.timeouts.clear()
        patience.events(None, may_ask=True)
        return poll.timeouts.count(0)

    counts = [asked() for _ in range(4 * RETRY_WAITS)]
    assert all(count > 1 for count in counts[:LUCK_MAX])
    later = counts[LUCK_MAX:]
    assert 3 <= sum(count > 1 for count in later) <= 4


def test_luck_comes_back_with_the_first_request_in_time():
    poll = Poll()
    patience = waiting(poll)
    for _ in range(RETRY_WAITS - 1):
        patience.events(None, may_ask=True)
    for _ in range(2):
        poll.answers = [[], [], EVENT]
        poll.timeouts.clear()
        assert patience.events(None, may_ask=True) == EVENT
        assert poll.timeouts == [0, 0, 0]


def test_while_others_need_the_processor_it_is_left_to_them():
    poll = Poll()
    waiting(poll).events(100, may_ask=False)
    assert poll.timeouts == [0, 100]
