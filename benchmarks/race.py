"""Contestants taking turns, so that all of them see the same disk and the same neighbours."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks import machine

ROUNDS = 2 if machine.on_board() else 5
"""Of a board fewer: its disk is what costs, and takes the same time always."""


class Timed(NamedTuple):
    """Work that was timed where it was done, piece by piece: one batch, or all of it."""

    amount: float
    seconds: list[float]


Run = Callable[[], float | Timed]
"""Does a round's work. What returns an amount alone is timed from outside."""

Round = Callable[[], Run]
"""Prepares a round, untimed, and returns what is timed."""


def race(
    benchmark: Any,
    own: str,
    contestants: Mapping[str, Round],
    rounds: int = ROUNDS,
    pieces: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Amount per second of every contestant in every round.

    `own` is handed to pytest-benchmark, which therefore shows our times; the others run in its
    untimed set-up of the same round. `pieces` takes the seconds of every piece of all rounds.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}

    def timed(name: str, run: Run) -> None:
        started = time.perf_counter()
        done = run()
        if not isinstance(done, Timed):
            done = Timed(done, [time.perf_counter() - started])
        rates[name].append(done.amount / sum(done.seconds))
        if pieces is not None:
            pieces.setdefault(name, []).extend(done.seconds)

    def setup() -> tuple[tuple[Run], dict[str, Any]]:
        for name, prepare in contestants.items():
            if name != own:
                timed(name, prepare())
        return (contestants[own](),), {}

    benchmark.pedantic(lambda run: timed(own, run), setup=setup, rounds=rounds)
    return rates


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that at least so many percent of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
