"""The goals of the engine as ratios of figures that were taken in the same run.

Absolute figures belong to a machine; a goal holds on every one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from benchmarks.growth import LIMIT as READ
from benchmarks.results import BOARD_SUITE
from benchmarks.workloads import BLOCKS, BlockWorkload

OWN = "blkdev"
FLAT = ("flat files", "go-ds-flatfs")
FLAT_UNSYNCED = ("flat files, no sync", "go-ds-flatfs, no sync")


class Figures:
    """Medians by suite, workload and contestant."""

    def __init__(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        self._medians: dict[tuple[str, str, str], float] = {
            (suite, row["workload"], row["contestant"]): row["median"]
            for suite, document in found.items()
            for row in document["rows"]
        }

    def of(self, suite: str, workload: str, contestant: str) -> float:
        """Raises KeyError where it was not measured."""
        return self._medians[suite, workload, contestant]

    def blocks(self, workload: str, contestant: str = OWN) -> float:
        return self.of("blocks", workload, contestant)

    def best(self, workload: str, *contestants: str) -> float:
        """The highest of those that were measured; KeyError when none was."""
        known = [self._medians.get(("blocks", workload, name)) for name in contestants]
        found = [value for value in known if value is not None]
        if not found:
            raise KeyError(workload)
        return max(found)

    def growth(self, workload: str) -> dict[int, float]:
        """By number of blocks, ascending. KeyError when nothing was measured."""
        found = {
            int(contestant.split()[0].replace(",", "")): value
            for (suite, known, contestant), value in self._medians.items()
            if (suite, known) == ("growth", workload)
        }
        if not found:
            raise KeyError(workload)
        return dict(sorted(found.items()))

    def largest(self, workload: str) -> tuple[int, float]:
        """The largest number of blocks that was measured, and its figure."""
        return list(self.growth(workload).items())[-1]


@dataclass(frozen=True)
class Goal:
    """`measure` gives the figure that is to be at least, or at most, `bound`; `allow` the one of
    somebody who does nothing but what nobody can do without, in the same run.
    """

    row: str
    what: str
    bound: float
    at_least: bool
    measure: Callable[[Figures], float]
    unit: str = ""
    allow: Callable[[Figures], float] | None = None

    def measured(self, figures: Figures) -> float | None:
        """None where a part of it was not measured."""
        try:
            return self.measure(figures)
        except KeyError:
            return None

    def allowed(self, figures: Figures) -> float | None:
        """None where no limit is known, or a part of it was not measured."""
        try:
            return None if self.allow is None else self.allow(figures)
        except KeyError:
            return None

    def is_reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def _least(row: str, what: str, bound: float, measure: Callable[[Figures], float]) -> Goal:
    return Goal(row, what, bound, True, measure, "x")


def _most(
    row: str, what: str, bound: float, measure: Callable[[Figures], float], unit: str = ""
) -> Goal:
    return Goal(row, what, bound, False, measure, unit)


def _ingest(size: str) -> Goal:
    workload = f"ingest {size}, hashed"

    def share(of: Figures, contestant: str) -> float:
        names = ("limit: sha2-256, all cores", "limit: disk write")
        return of.blocks(workload, contestant) / min(of.blocks(workload, name) for name in names)

    goal = _least(
        f"durable ingest, {size}", "slower of hash and device", 0.8, lambda of: share(of, OWN)
    )
    return replace(goal, allow=lambda of: share(of, "limit: both at once"))


def _against(row: str, workload: str, rivals: tuple[str, ...], bound: float) -> Goal:
    return _least(
        row,
        " or ".join(rivals),
        bound,
        lambda of: of.blocks(workload) / of.best(workload, *rivals),
    )


def _small(size: BlockWorkload) -> list[Goal]:
    row, workload = f"durable ingest, {size.name}", f"put {size.name}"

    def against(rivals: tuple[str, ...], bound: float) -> Goal:
        def allow(of: Figures) -> float:
            flushed = of.blocks(workload, "limit: batch + flush") * 1e6 / size.size_bytes
            return flushed / of.best(workload, *rivals)

        return replace(_against(row, workload, rivals, bound), allow=allow)

    return [
        against(FLAT, 20),
        against(FLAT_UNSYNCED, 1),
        against(("leveldb",), 3),
        against(("lmdb",), 3),
    ]


def _added(workload: str) -> Goal:
    return _least(
        f"`{workload}`",
        "kubo, sync",
        1,
        lambda of: of.of("add", workload, "ipfs-mfs") / of.of("add", workload, "kubo, sync"),
    )


def _added_as_fast_as_hashed(workload: str) -> Goal:
    return _least(
        f"`{workload}`",
        "SHA-256, one core",
        0.7,
        lambda of: of.of("add", workload, "ipfs-mfs") / of.of("add", workload, "limit: sha2-256"),
    )


def _added_as_allowed(workload: str) -> Callable[[Figures], float]:
    def measure(of: Figures) -> float:
        names = ("limit: sha2-256", "limit: new file")
        slower = min(of.of("add", workload, name) for name in names)
        return of.of("add", workload, "ipfs-mfs") / slower

    return measure


def _verified(size: str, bound: float) -> Goal:
    def measure(of: Figures) -> float:
        workload = f"read {size}"
        return of.of("read", workload, "verified") / of.of("read", workload, "limit: sha2-256")

    return _least(f"warm verified get, {size}", "SHA-256, one core", bound, measure)


def _cold(size: str) -> list[Goal]:
    row, workload = f"cold get, {size}", f"cold get {size}"
    return [
        _most(row, "read over payload", 8192, lambda of: of.blocks(f"{workload}, read"), "B"),
        _least(
            row,
            "device",
            0.9,
            lambda of: of.blocks(workload) / of.blocks(workload, "limit: cold read"),
        ),
    ]


def _micros(row: str, workload: str, bound: float) -> Goal:
    return _most(row, "time", bound, lambda of: 1e6 / of.blocks(workload), "µs")


def _flat(operation: str, *, reads: bool = False) -> Goal:
    def growth(of: Figures, workload: str) -> float:
        values = of.growth(workload).values()
        return max(values) / min(values)

    def measure(of: Figures) -> float:
        return growth(of, operation)

    def allow(of: Figures) -> float:
        return growth(of, READ)

    goal = _most(f"growth: {operation}", "slowest / quickest size", 1.2, measure, "x")
    return replace(goal, allow=allow) if reads else goal


def _compaction(full: str) -> Goal:
    def measure(of: Figures) -> float:
        workload = f"written, replacing blocks of a store {full} full"
        return of.blocks(workload) / of.blocks(workload, "limit: 1 / (1 - u)")

    return _most(f"write amplification, {full} full", "of 1 / (1 - u)", 1.05, measure, "x")


def _open_clean(of: Figures) -> float:
    count, milliseconds = of.largest("open, closed in order")
    return milliseconds - count / 1e6


GOALS: tuple[Goal, ...] = (
    _ingest("256 KiB"),
    _ingest("1 MiB"),
    *_small(BLOCKS[0]),
    *_small(BLOCKS[1]),
    _added("add 256 MiB"),
    _added("add 1 GiB"),
    _added("add 5,000 x 4 KiB"),
    _added_as_fast_as_hashed("add 256 MiB"),
    _added_as_fast_as_hashed("add 1 GiB"),
    _added_as_fast_as_hashed("add 256 MiB, no SHA extensions"),
    _least("`add 1 GiB`", "slower of hash and device", 0.7, _added_as_allowed("add 1 GiB")),
    _most(
        "single durable put",
        "one 4 KiB write and flush",
        1.15,
        lambda of: (
            of.blocks("single durable put", "limit: 4 KiB + flush")
            / of.blocks("single durable put")
        ),
        "x",
    ),
    _most("single durable put", "flushes", 1.01, lambda of: of.blocks("flushes per single put")),
    _most(
        "single durable put", "device reads", 0, lambda of: of.blocks("device reads per single put")
    ),
    _verified("256 KiB", 0.93),
    _verified("4 KiB", 0.70),
    _micros("view without a copy", "view 4 KiB", 1.5),
    *_cold("4 KiB"),
    *_cold("256 KiB"),
    _micros("has, hit", "has, hit, 4 KiB", 1),
    _micros("has, miss", "has, miss, 4 KiB", 1),
    _most("has, miss", "device reads", 0, lambda of: of.blocks("device reads per miss, 4 KiB")),
    _most(
        "index memory",
        "at the worst fill",
        24,
        lambda of: max(of.growth("index").values()),
        "B per block",
    ),
    _most("memory", "of the largest store", 600, lambda of: of.largest("memory")[1], "MB"),
    _most("open, clean", "time less 1 ms a million", 50, _open_clean, "ms"),
    _most(
        "open, after a crash",
        "64 MiB of 4 KiB",
        300,
        lambda of: of.blocks("open after a crash, 64 MiB of 4 KiB"),
        "ms",
    ),
    _most(
        "open, after a crash",
        "64 MiB of 300 B",
        300,
        lambda of: of.blocks("open after a crash, 64 MiB of 300 B"),
        "ms",
    ),
    _most("space", "over 300 B", 64, lambda of: of.blocks("space over payload, 300 B"), "B"),
    _most(
        "space",
        "over 256 KiB",
        0.1,
        lambda of: of.blocks("space over payload, 256 KiB") / (256 << 10) * 100,
        "%",
    ),
    _most("write amplification", "256 KiB", 1.03, lambda of: of.blocks("written, 256 KiB"), "x"),
    _compaction("50%"),
    _compaction("75%"),
    _against("delete and reclaim, 4 KiB", "delete and reclaim 4 KiB", FLAT, 5),
    Goal("dead space", "given back", 95, True, lambda of: of.blocks("dead space given back"), "%"),
    _most(
        "writers during compaction",
        "longest wait",
        100,
        lambda of: of.blocks("writer's wait during compaction"),
        "ms",
    ),
    _flat("get", reads=True),
    _flat("has, hit", reads=True),
    _flat("has, miss"),
    _flat("put, durable in batches of 128"),
)


BOARD_SHARE = 0.9
"""Of a ratio that a small board is to keep."""


BOARD_RATIOS: tuple[Goal, ...] = (
    *(
        goal
        for goal in GOALS
        if (
            goal.row.startswith(("durable ingest", "delete and reclaim"))
            and "no sync" not in goal.what
        )
        or goal.what in ("kubo, sync", "one 4 KiB write and flush")
    ),
    _least(
        "`add 256 MiB`", "slower of hash and device", BOARD_SHARE, _added_as_allowed("add 256 MiB")
    ),
    *(
        _against(
            f"{operation}, 4 KiB", f"{operation}, 4 KiB".replace("get,", "get"), ("leveldb",), 1
        )
        for operation in ("get", "has, hit", "has, miss")
    ),
)
"""What is measured on a small board as well. Who never flushes is no measure where flushes are what
costs."""


class Held(NamedTuple):
    """A ratio on a board beside the same one elsewhere."""

    goal: Goal
    board: float
    elsewhere: float

    @property
    def share(self) -> float:
        """Of the ratio elsewhere that the board keeps; above 1 it does better."""
        pair = (self.board, self.elsewhere)
        return pair[0] / pair[1] if self.goal.at_least else pair[1] / pair[0]


def held(found: Mapping[str, Mapping[str, Any]]) -> list[Held]:
    """The ratios that were measured on a board and elsewhere."""
    rows = found.get(BOARD_SUITE, {"rows": []})
    # A board's rows have the workloads of other suites.
    board, elsewhere = Figures({"blocks": rows, "add": rows}), Figures(found)
    pairs = [(goal, goal.measured(board), goal.measured(elsewhere)) for goal in BOARD_RATIOS]
    return [Held(goal, here, there) for goal, here, there in pairs if here and there]


def board_table(
    found: Mapping[str, Mapping[str, Any]], figure: Callable[[float], str]
) -> list[str]:
    """Markdown: one line for each ratio that a board is to keep."""
    lines = [
        "| row | against | board | elsewhere | goal | board / elsewhere | reached |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in held(found):
        cells = (
            one.goal.row,
            one.goal.what,
            f"{figure(one.board)} {one.goal.unit}",
            f"{figure(one.elsewhere)} {one.goal.unit}",
            f"≥ {BOARD_SHARE:g}",
            figure(one.share),
            "yes" if one.share >= BOARD_SHARE else "**no**",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []


def table(found: Mapping[str, Mapping[str, Any]], figure: Callable[[float], str]) -> list[str]:
    """Markdown: one line for each goal of which all parts were measured."""
    figures = Figures(found)
    lines = [
        "| row | against | goal | measured | reached | the limit's own |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for goal in GOALS:
        value = goal.measured(figures)
        if value is None:
            continue
        sign = "≥" if goal.at_least else "≤"
        allowed = goal.allowed(figures)
        cells = (
            goal.row,
            goal.what,
            f"{sign} {goal.bound:,g} {goal.unit}".rstrip(),
            f"{figure(value)} {goal.unit}".rstrip(),
            "yes" if goal.is_reached(value) else "**no**",
            "" if allowed is None else f"{figure(allowed)} {goal.unit}".rstrip(),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []
