"""The two-generation cache: bounded, keeps what is used, safe beside other threads."""

import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from repo.recent import Recent


def test_entry_is_found_until_it_is_discarded():
    recent: Recent[str, int] = Recent(10)
    recent.put("a", 1)
    assert recent.get("a") == 1
    recent.discard("a")
    recent.discard("a")
    assert recent.get("a") is None


def test_unused_entries_are_forgotten_and_used_ones_stay():
    recent: Recent[int, int] = Recent(100)
    recent.put(-1, -1)
    for number in range(1000):
        recent.put(number, number)
        assert recent.get(-1) == -1
    assert recent.get(0) is None
    assert recent.get(999) == 999


def test_value_is_replaced():
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 1)
    recent.put("a", 2)
    assert recent.get("a") == 2
    recent.discard("a")
    assert recent.get("a") is None


def test_discarded_entry_does_not_come_back_from_the_old_generation():
    recent: Recent[str, int] = Recent(4)
    for key in "abcd":
        recent.put(key, 1)
    recent.discard("a")
    assert recent.get("a") is None


def test_clear_forgets_everything():
    recent: Recent[int, int] = Recent(10)
    for number in range(8):
        recent.put(number, number)
    recent.clear()
    assert len(recent) == 0
    assert recent.get(7) is None


def test_entry_heavier_than_the_cache_is_kept_alone():
    recent: Recent[str, int] = Recent(100)
    recent.put("light", 1, weight=10)
    recent.put("heavy", 2, weight=1000)
    assert recent.get("heavy") == 2
    for number in range(20):
        recent.put(str(number), number, weight=10)
    assert recent.get("heavy") is None


@given(
    capacity=st.integers(2, 60),
    puts=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), max_size=200),
)
def test_weight_stays_within_the_capacity(capacity, puts):
    recent: Recent[int, int] = Recent(capacity)
    weights = {}
    for key, weight in puts:
        recent.put(key, key, weight)
        weights[key] = weight
        assert recent.get(key) == key
        held = sum(weights[key] for key in weights if recent.get(key) is not None)
        assert held <= capacity + 10


def test_threads_find_what_they_put_or_nothing():
    recent: Recent[int, int] = Recent(64)
    wrong: list[object] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(5000):
            key = rng.randrange(100)
            match rng.randrange(3):
                case 0:
                    recent.put(key, key * 2)
                case 1:
                    recent.discard(key)
                case _:
                    if recent.get(key) not in (None, key * 2):
                        wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(recent) <= 66
