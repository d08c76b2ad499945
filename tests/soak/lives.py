"""Random operations that two processes draw alike: one does them, the other knows what they did.

    python -m tests.soak.lives PATH SEED STATE

The worker opens the store at PATH and works until it is killed. It writes a line to stdout after
each step: `ok`, `full` (there was no room for it) or `acknowledged` (it was a commit). STATE is the
JSON of the state in which it finds the store. What a step is follows from SEED, the state and the
outcomes so far; so whoever reads the lines can follow, and knows the step that was under way at the
kill.

A life has a mood: most leave a store about as full as it was, some fill it to the last byte and go
on, some empty it.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from blkdev.device import open_device
from blkdev.errors import SizeTooSmall, StoreFull
from blkdev.store import Store

SIZES = (0, 1, 40, 300, 300, 4096, 4096, 30_000, 100_000, 262_144)
LARGE_SIZE_BYTES = 400_000
STORE_SIZES = (96 << 20, 80 << 20, 64 << 20)
"""What a store is resized to, in bytes; the first is what it begins with, and its device's size."""
MOODS = {"steady": (0.55, 0.65), "filling": (0.70, 0.72), "emptying": (0.25, 0.65)}
"""Of all steps, the share of puts, and of puts and deletions."""
NAMES = ("root/a", "root/b", "root/c")
ACKNOWLEDGED = "acknowledged"


@lru_cache(maxsize=256)
def block_of(number: int) -> tuple[bytes, bytes]:
    """Key and value of the numbered block. Odd ones are large."""
    rng = random.Random(number)
    key = b"%d " % number + rng.randbytes(rng.randrange(1, 40))
    return key, rng.randbytes(LARGE_SIZE_BYTES if number % 2 else rng.choice(SIZES))


@dataclass
class State:
    """What the store holds: numbers of its blocks, values of its names, records of its journal."""

    blocks: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    journal: list[int] = field(default_factory=list)

    def copy(self) -> State:
        return State(self.blocks[:], dict(self.names), self.journal[:])


@dataclass(frozen=True)
class Step:
    """One operation: what it does to a store, and what that makes of the state."""

    kind: str
    act: Callable[[Store], object]
    change: Callable[[State], object] = lambda state: None
    size_bytes: int = 0
    """Of the store, after a resize."""


class Plan:
    """The steps of one life."""

    def __init__(self, seed: int, state: State) -> None:
        self.state = state
        self._rng = random.Random(seed)
        self._next = seed * 1_000_000
        self.mood = self._rng.choices(list(MOODS), (4, 3, 1))[0]

    def step(self) -> Step:
        """Draw the next one; the state is as the outcomes so far made it."""
        rng = self._rng
        draw = rng.random()
        puts, deletions = MOODS[self.mood]
        if draw < puts:
            return self._put()
        if draw < deletions:
            return self._delete()
        if draw < 0.75:
            name, number = rng.choice(NAMES), self._number()
            return Step(
                "name",
                lambda store: store.set_name(name.encode(), b"%d" % number),
                lambda state: state.names.update({name: number}),
            )
        if draw < 0.80:
            return self._journal()
        if draw < 0.95:
            return Step(ACKNOWLEDGED, lambda store: store.commit())
        if draw < 0.97:
            budget_bytes = rng.choice((None, 1 << 20))
            return Step("compact", lambda store: store.compact(budget_bytes))
        if draw < 0.978:
            return Step("checkpoint", lambda store: store.checkpoint())
        if draw < 0.982:
            size = rng.choice(STORE_SIZES)
            return Step("resize", lambda store: store.resize(size), size_bytes=size)
        return Step("write_out", lambda store: store.write_out())

    def outcome(self, step: Step, said: str) -> None:
        if said != "full":
            step.change(self.state)

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _put(self) -> Step:
        number = 2 * self._number() + (self.mood == "filling" and self._rng.random() < 0.6)
        item = block_of(number)
        return Step(
            "put", lambda store: store.put_many([item]), lambda state: state.blocks.append(number)
        )

    def _delete(self) -> Step:
        """A few, or nearly all."""
        blocks, rng = self.state.blocks, self._rng
        is_end = rng.random() < 0.02 and self.mood != "filling"
        many = len(blocks) if is_end else min(len(blocks), rng.randrange(1, 8))
        gone = set(rng.sample(blocks, min(many, 1000)))
        keys = [block_of(number)[0] for number in sorted(gone)]

        def change(state: State) -> None:
            state.blocks = [number for number in state.blocks if number not in gone]

        return Step("delete", lambda store: store.delete_many(keys), change)

    def _journal(self) -> Step:
        number = self._number()
        if len(self.state.journal) > 20:
            return Step("trim", _trim, lambda state: state.journal.clear())
        record = b"%d" % number
        return Step(
            "append",
            lambda store: store.journal(1).append(record),
            lambda state: state.journal.append(number),
        )


def _trim(store: Store) -> None:
    store.journal(1).trim(store.position())


def found_in(store: Store) -> State:
    """Everything the store holds, read and compared byte by byte. Raises AssertionError."""
    numbers = []
    for key in store.keys():  # noqa: SIM118  # a store is no dict
        number = int(key.split(b" ", 1)[0])
        assert (key, store.get(key)) == block_of(number), f"block {number} is not what was put"
        numbers.append(number)
    assert len(set(numbers)) == len(numbers), "a key is listed twice"
    names = {name.decode(): int(value) for name, value in store.names()}
    return State(numbers, names, [int(record) for _, record in store.journal(1).replay()])


def same(one: State, other: State) -> bool:
    return (
        sorted(one.blocks) == sorted(other.blocks)
        and (one.names, one.journal) == (other.names, other.journal)
    )  # fmt: skip


def work(path: str, seed: int, state: State) -> None:
    """Until somebody kills us."""
    plan = Plan(seed, state)
    store = Store.open(open_device(path))
    while True:
        step = plan.step()
        said = ACKNOWLEDGED if step.kind == ACKNOWLEDGED else "ok"
        try:
            step.act(store)
        except (StoreFull, SizeTooSmall):
            said = "full"
        plan.outcome(step, said)
        print(said, flush=True)


def encoded(state: State) -> str:
    return json.dumps(asdict(state))


def decoded(text: str) -> State:
    return State(**json.loads(text))


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), decoded(sys.stdin.readline()))
