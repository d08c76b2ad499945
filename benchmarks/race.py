"""Contestants taking turns, so that all of them see the same disk and the same neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

ROUNDS = 5

Round = Callable[[], Callable[[], float]]
"""Prepares a round, untimed, and returns what is timed; that returns the amount of work it did."""


def race(
    benchmark: Any, own: str, contestants: Mapping[str, Round], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Amount per second of every contestant in every round.

    `own` is handed to pytest-benchmark, which therefore shows our times; the others run in its
    untimed set-up of the same round.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}

    def timed(name: str, run: Callable[[], float]) -> None:
        started = time.perf_counter()
        amount = run()
        rates[name].append(amount / (time.perf_counter() - started))

    def setup() -> tuple[tuple[Callable[[], float]], dict[str, Any]]:
        for name, prepare in contestants.items():
            if name != own:
                timed(name, prepare())
        return (contestants[own](),), {}

    benchmark.pedantic(lambda run: timed(own, run), setup=setup, rounds=rounds)
    return rates
