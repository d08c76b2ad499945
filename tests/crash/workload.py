"""Operations whose crashes are enumerated, each with the steps it adds to the expected states.

Whatever else a store can do to its device becomes one function here and one entry of OPERATIONS:
all sequences with it are then enumerated, cut and judged like the others.
"""

import itertools
import random
from collections.abc import Callable

from blkdev.device import RamDevice
from blkdev.errors import SizeTooSmall, StoreFull
from blkdev.index import fingerprint_of
from blkdev.store import Store
from tests.crash.enumeration import Pages, Run, State, contents

SIZE_BYTES = 20 << 20
SIZES = (SIZE_BYTES, 24 << 20, 28 << 20)
"""In bytes; with 64 segments and more, each of which every recovery looks at."""
SEGMENT_SIZE_BYTES = 64 << 10
Operation = Callable[[Run], None]


def value_of(key: bytes, size_bytes: int) -> bytes:
    """Bytes that differ everywhere between keys."""
    return random.Random(key).randbytes(size_bytes)


def put(run: Run, key: bytes, size_bytes: int) -> None:
    """On a full store nothing is put, whatever room the store tried to make."""
    value = value_of(key, size_bytes)
    state = run.state
    if key in state.blocks:
        run.store.put_many([(key, value)])
        return
    run.step(State({**state.blocks, key: value}, state.names, state.journal))
    try:
        run.store.put_many([(key, value)])
    except StoreFull:
        run.states.pop()


def delete(run: Run, keys: list[bytes]) -> None:
    state = run.state
    left = {key: value for key, value in state.blocks.items() if key not in keys}
    if len(left) < len(state.blocks):
        run.step(State(left, state.names, state.journal))
    run.store.delete_many(keys)


def put_small(run: Run) -> None:
    put(run, b"small %d" % len(run.states), 300)


def put_large(run: Run) -> None:
    """Half a segment: the next but one needs a new segment."""
    put(run, b"large %d" % len(run.states), 30_000)


def put_pair(run: Run) -> None:
    """A duplicate, and a new key after it."""
    put(run, b"kept 0", 3000)
    put(run, b"pair %d" % len(run.states), 2000)


def grow_index(run: Run) -> None:
    """Keys of one table of the index, so many that it grows, with a checkpoint on the way."""
    keys = crowded_keys(run.store._volume.index_salt, len(run.states))
    for key in keys[:3]:
        put(run, key, 24)
    checkpoint(run)
    for key in keys[3:]:
        put(run, key, 24)


def crowded_keys(index_salt: int, first: int, count: int = 7) -> list[bytes]:
    """Keys whose fingerprints begin with the same 8 bits."""
    numbered = (b"crowd %d" % number for number in itertools.count(first * 100_000))
    crowd = (key for key in numbered if fingerprint_of(key, index_salt) >> 56 == 0x5A)
    return list(itertools.islice(crowd, count))


def delete_old(run: Run) -> None:
    delete(run, [key for key in run.state.blocks if key.startswith(b"old")][:4])


def delete_new(run: Run) -> None:
    delete(run, [key for key in run.state.blocks if not key.startswith((b"old", b"kept"))])


def delete_and_put_again(run: Run) -> None:
    delete(run, [b"kept 0"])
    put(run, b"kept 0", 3000)


def set_names(run: Run) -> None:
    state, mark = run.state, b"%d" % len(run.states)
    names = {**state.names, b"root/a": mark, b"root/b": mark}
    names.pop(b"root/gone", None)
    run.step(State(state.blocks, names, state.journal))
    run.store.set_names({b"root/a": mark, b"root/b": mark, b"root/gone": None})


def journal(run: Run) -> None:
    """Two records appended, everything before the second trimmed."""
    stream = run.store.journal(1)
    position = 0
    for size_bytes in (100, 3000):
        record = value_of(b"record %d" % len(run.states), size_bytes)
        state = run.state
        run.step(State(state.blocks, state.names, (*state.journal, record)))
        try:
            position = stream.append(record)
        except StoreFull:
            run.states.pop()
            return
    state = run.state
    run.step(State(state.blocks, state.names, state.journal[-1:]))
    stream.trim(position - 1)


def commit(run: Run) -> None:
    run.store.commit()
    run.acknowledge()


def write_out(run: Run) -> None:
    run.store.write_out()


def compact(run: Run) -> None:
    if run.store.compact().segments_freed:
        run.acknowledge()


def checkpoint(run: Run) -> None:
    if run.store.checkpoint():
        run.acknowledge()


def reopen(run: Run) -> None:
    run.store.close()
    run.acknowledge()
    run.mark()
    run.store = Store.open(run.device)


def kill(run: Run) -> None:
    """The process dies, the machine does not: what was written out is found again."""
    steps = len(run.states) - 1
    run.store = Store.open(run.device)
    # Staged records are gone; nobody promised them.
    found = contents(run.store)
    while run.states[steps] != found:
        steps -= 1
        assert steps >= run.acknowledged
    if steps < len(run.states) - 1:
        run.step(found)


def resize(run: Run, size_bytes: int) -> None:
    """What was staged may stay so; what is checkpointed at the end is durable."""
    before = run.store._checkpointer.block.checkpoint_sequence
    segments = run.store.geometry.segment_count
    try:
        run.store.resize(size_bytes)
    except SizeTooSmall:
        assert run.store.geometry.segment_count == segments
        return
    if run.store._checkpointer.block.checkpoint_sequence != before:
        run.acknowledge()


def grow(run: Run) -> None:
    """To the next size, if there is one."""
    now = run.store.device.size_bytes
    resize(run, min((size for size in SIZES if size > now), default=now))


def shrink(run: Run) -> None:
    """To the smallest size, whether everything fits there or not."""
    resize(run, SIZE_BYTES)


OPERATIONS: tuple[Operation, ...] = (
    put_small, put_large, put_pair, delete_old, delete_new, delete_and_put_again, set_names,
    journal, commit, write_out, compact, checkpoint, reopen, kill, grow_index,
)  # fmt: skip


LIFE_OPERATIONS: tuple[Operation, ...] = (*OPERATIONS, grow, shrink)
"""Those of random lives: with what would make all sequences of three too many."""


def named(operation: Operation) -> str:
    """For the ids of tests."""
    return operation.__name__


def perform(run: Run, operations: tuple[Operation, ...]) -> int:
    """Run them; the number of events before the last one."""
    before_last = 0
    for operation in operations:
        before_last = len(run.device.events)
        operation(run)
        run.mark()
    return before_last


def prepared(
    seed: int, *, old: int = 9, fill: bool = False, size_bytes: int = SIZE_BYTES, wide: int = 0
) -> tuple[Pages, State]:
    """A store with a past: sealed segments, some of their records dead, names, a journal; and so
    many blocks that have a segment of their own each.
    """
    device = RamDevice(size_bytes)
    entropy = random.Random(seed).randbytes
    Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES, entropy=entropy)
    run = Run(size_bytes, device.pages, State())
    for number in range(wide):
        # Nobody deletes them: to free all of their segments at once is a hundred writes unsynced.
        put(run, b"kept wide %d" % number, 30_000)
    for number in range(old):
        put(run, b"old %d" % number, 18_000)
        put(run, b"kept %d" % number, 3000)
        put(run, b"tiny %d" % number, 40)
    delete(run, [b"tiny %d" % number for number in range(0, old, 2)])
    delete(run, [b"old 1"])
    names = {b"root/a": b"first", b"root/gone": b"soon"}
    run.step(State(run.state.blocks, names, ()))
    run.store.set_names(names)
    journal(run)
    run.store.commit()
    if fill:
        fill_up(run)
    run.store.close()
    return run.device.pages, run.state


def fill_up(run: Run) -> None:
    """Put until the store is full."""
    for number in range(1000):
        key, state = b"fill %d" % number, run.state
        try:
            run.store.put_many([(key, value_of(key, 20_000))])
        except StoreFull:
            return
        filled = {**state.blocks, key: value_of(key, 20_000)}
        run.states[-1] = State(filled, state.names, state.journal)
    raise AssertionError("the store never filled up")
