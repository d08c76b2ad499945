"""Inline or in a thread: what decides."""

from fusefs.pace import SLOW_S, THREADED_AFTER_SLOW, Pace


def pace(**options):
    return Pace("read", 30, lambda subject: subject == 7, **options)


def test_quick_calls_stay_in_the_loop():
    kind = pace()
    for _ in range(1000):
        assert not kind.goes_to_thread(1)
        kind.took(SLOW_S / 10)


def test_after_a_slow_call_the_next_ones_go_to_threads_until_they_were_quick_for_a_while():
    kind = pace()
    kind.took(SLOW_S * 2)
    for _ in range(THREADED_AFTER_SLOW):
        assert kind.goes_to_thread(1)
        kind.took(SLOW_S / 10)
    assert not kind.goes_to_thread(1)


def test_calls_that_stay_slow_stay_out_of_the_loop():
    kind = pace()
    kind.took(SLOW_S * 2)
    for _ in range(10 * THREADED_AFTER_SLOW):
        assert kind.goes_to_thread(1)
        kind.took(SLOW_S * 2)


def test_what_is_known_to_wait_goes_to_a_thread_at_once():
    kind = pace()
    assert kind.goes_to_thread(7)
    assert not kind.goes_to_thread(1)


def test_some_kinds_always_go_to_a_thread():
    kind = pace(always_threaded=True)
    kind.took(0)
    assert all(kind.goes_to_thread(1) for _ in range(100))
