"""The table of inodes and entries: lookups, bulk loads, and one change among many entries."""

import os
import random

import pytest

from benchmarks.race import Round, race
from mfs.table import Table
from repo.service import Repo

ENTRIES = 200_000
LOAD = 50_000


@pytest.fixture(scope="module")
def keys() -> list[bytes]:
    return [b"i" + number.to_bytes(8, "big") for number in range(ENTRIES)]


@pytest.fixture(scope="module")
def table(keys) -> Table:
    repo = Repo.in_memory()
    table = Table(None, repo.get, repo.put)
    for start in range(0, ENTRIES, LOAD):
        changes = {key: os.urandom(60) for key in keys[start : start + LOAD]}
        table = table.at(table.apply(changes))
    return table


def test_table(benchmark, results, table, keys):
    rng = random.Random(1)

    def lookups(hot: list[bytes]) -> Round:
        def prepare():
            chosen = rng.choices(hot, k=5000)

            def run() -> float:
                for key in chosen:
                    table.lookup(key)
                return len(chosen)

            return run

        return prepare

    def changes(count: int) -> Round:
        def prepare():
            chosen = dict.fromkeys(rng.sample(keys, count), os.urandom(60))

            def run() -> float:
                table.apply(chosen)
                return count

            return run

        return prepare

    contestants: dict[str, Round] = {
        "lookup, cached": lookups(keys[:2000]),
        "lookup, anywhere": lookups(keys),
        "apply 1 change": changes(1),
        "apply 1,000 changes": changes(1000),
        "apply 20,000 changes": changes(20_000),
    }
    for name, values in race(benchmark, "lookup, cached", contestants).items():
        results.add(f"table of {ENTRIES:,}", name, "/s", values)
