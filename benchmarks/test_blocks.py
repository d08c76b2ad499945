"""The engine's goals, one by one: against the limits of the machine and against other stores.

All contestants put the same blocks, durable after each batch, on disks of the same kind.
"""

import random
from collections.abc import Iterator
from itertools import count

import pytest

from benchmarks import contest, engine, limits
from benchmarks.contest import OWN, Contest, Contestant
from benchmarks.race import ROUNDS, Round, percentile, race
from benchmarks.rivals.devices import can_loop
from benchmarks.workloads import BLOCKS, MEBIBYTE, SINGLE_PUT, Blocks, BlockWorkload

READ_BYTES_MAX = 256 * MEBIBYTE
READS_MAX = 2000
COLD_READS_MAX = 256
LATENCIES_MAX = 500
READ_ROUNDS = max(3, ROUNDS)
"""The first may find less in memory than was put."""
DELETE_ROUNDS = min(3, ROUNDS)
"""Each puts all blocks first, which takes the time."""
LARGE_BYTES = 1 << 17
"""From this size on, MB/s say more than operations per second."""
FLAT = ("flat files", "go-ds-flatfs")
"""Rivals that have given the space back when a delete is done."""

needs_counters = pytest.mark.skipif(not can_loop(), reason="needs loop devices")


@pytest.fixture(scope="module", params=BLOCKS, ids=lambda workload: workload.name)
def workload(request) -> BlockWorkload:
    return request.param


@pytest.fixture(scope="module")
def field(bench_folder, workload) -> Iterator[Contest]:
    """All contestants, on fresh disks for each size of block."""
    opened = Contest(bench_folder / f"blocks-{workload.size_bytes}", workload.disk_size_bytes)
    yield opened
    opened.close()


def put_rounds(field: Contest, workload: BlockWorkload, name: str) -> dict[str, Round]:
    """New blocks for every round, the same ones for every contestant."""

    def rounds_of(contestant: Contestant) -> Round:
        numbers = count()

        def prepare():
            contestant.prepare(Blocks(f"{name}/{next(numbers)}", workload))
            return contestant.put

        return prepare

    return {known: rounds_of(one) for known, one in field.contestants.items()}


def add_rates(results, what: str, workload: BlockWorkload, rates, pieces=None) -> None:
    """Operations per second; MB/s where blocks are large, and of limits."""
    for name, values in rates.items():
        more = {}
        if pieces is not None and not name.startswith("limit"):
            more = {f"p{p}_ms": percentile(pieces[name], p) * 1e3 for p in (50, 99)}
        if name.startswith("limit"):
            results.add(what, name, "MB/s", values)
        elif workload.size_bytes >= LARGE_BYTES:
            megabytes = [value * workload.size_bytes / 1e6 for value in values]
            results.add(what, name, "MB/s", megabytes, **more)
        else:
            results.add(what, name, "/s", values, **more)


def test_put(benchmark, field, results, disk, workload):
    contestants = put_rounds(field, workload, "put")
    contestants["limit: sha2-256"] = lambda: limits.sha256(
        workload.size_bytes, workload.total_bytes
    )
    contestants["limit: disk write"] = disk.sequential_write
    contestants["limit: batch + flush"] = lambda: disk.flushed_batches(
        workload.batch_count * workload.size_bytes, workload.batches
    )
    before = field.settled()
    used = {name: field.used_bytes(name) for name in field.devices}
    pieces: dict[str, list[float]] = {}
    rates = race(benchmark, OWN, contestants, pieces=pieces)
    add_rates(results, f"put {workload.name}", workload, rates, pieces)
    rounds = len(rates[OWN])
    for name, now in field.settled().items():
        spent = now.since(before[name])
        payload = rounds * workload.total_bytes
        flushes = spent.flushes / (rounds * workload.batches)
        over = (field.used_bytes(name) - used[name] - payload) / (rounds * workload.blocks)
        results.add(f"flushes per batch, {workload.name}", name, "flushes", [flushes])
        results.add(f"written, {workload.name}", name, "x payload", [spent.write_bytes / payload])
        results.add(f"space over payload, {workload.name}", name, "B per block", [over])


def test_put_with_the_flush_left_out(benchmark, field, results, workload, monkeypatch):
    """What a batch costs besides its flush: what that leaves to gain. Nothing is durable here."""
    monkeypatch.setattr(field.own.store.device, "sync", lambda: None)
    rounds = {OWN: put_rounds(field, workload, "no flush")[OWN]}
    add_rates(results, f"no flush, put {workload.name}", workload, race(benchmark, OWN, rounds))


def stored(field: Contest, workload: BlockWorkload) -> list[int]:
    """The same blocks in every store, put where they are not yet; numbers of some, at random."""
    blocks = Blocks("read", workload)
    for contestant in field.contestants.values():
        contestant.prepare(blocks)
        if blocks not in field.stored:
            contestant.put()
    field.stored.add(blocks)
    reads = min(READS_MAX, READ_BYTES_MAX // workload.size_bytes)
    return random.Random(1).choices(range(workload.blocks), k=reads)


def test_get(benchmark, field, results, workload):
    order = stored(field, workload)

    def reads_of(contestant: Contestant) -> Round:
        return lambda: lambda: contestant.get(order)

    contestants = {name: reads_of(one) for name, one in field.contestants.items()}
    total = len(order) * workload.size_bytes
    contestants["limit: memory copy"] = lambda: limits.memory_copy(workload.size_bytes, total)
    rates = race(benchmark, OWN, contestants, READ_ROUNDS)
    # Apart from the race: the clock costs about as much as a small read.
    few = order[:LATENCIES_MAX]
    pieces = {name: one.get(few, each=True).seconds for name, one in field.contestants.items()}
    add_rates(results, f"get {workload.name}", workload, rates, pieces)


def test_view_without_a_copy(benchmark, field, results, workload):
    order = stored(field, workload)
    keys = Blocks("read", workload).keys()
    wanted = [keys[number] for number in order]
    view = field.own.store.view

    def run() -> float:
        for key in wanted:
            with view(key):
                pass
        return len(wanted)

    for name, values in race(benchmark, OWN, {OWN: lambda: run}).items():
        results.add(f"view {workload.name}", name, "/s", values)


@pytest.mark.parametrize("absent", [False, True], ids=["hit", "miss"])
def test_has(benchmark, field, results, workload, absent):
    order = stored(field, workload)

    def looks_of(contestant: Contestant) -> Round:
        return lambda: lambda: contestant.has(order, absent=absent)

    contestants = {name: looks_of(one) for name, one in field.contestants.items()}
    what = f"has, {'miss' if absent else 'hit'}, {workload.name}"
    for name, values in race(benchmark, OWN, contestants, READ_ROUNDS).items():
        results.add(what, name, "/s", values)


@needs_counters
def test_cold_get(benchmark, field, results, disk, workload):
    stored(field, workload)
    numbers = range(workload.blocks)
    order = random.Random(2).sample(numbers, k=min(COLD_READS_MAX, len(numbers)))
    read: dict[str, list[float]] = {}

    def reads_of(name: str, contestant: Contestant) -> Round:
        def run():
            before = field.counters(name)
            done = contestant.get(order)
            spent = field.counters(name).since(before)
            read.setdefault(name, []).append(spent.read_bytes / len(order) - workload.size_bytes)
            return done

        def prepare():
            # What is mapped, or in a cache of the store's own, would stay in memory.
            contestant.reopen()
            limits.drop_caches()
            return run

        return prepare

    def limit():
        limits.drop_caches()
        return disk.random_reads(workload.size_bytes, len(order))

    def many():
        own = field.contestants[OWN]
        own.reopen()
        keys = Blocks("read", workload).keys()
        wanted = [keys[number] for number in order]
        limits.drop_caches()
        return lambda: sum(1 for _ in field.own.store.get_many(wanted))

    contestants = {name: reads_of(name, one) for name, one in field.contestants.items()}
    contestants["blkdev, get_many"] = many
    contestants["limit: cold read"] = limit
    for name, values in race(benchmark, OWN, contestants).items():
        results.add(f"cold get {workload.name}", name, "/s", values)
    for name, values in read.items():
        results.add(f"cold get {workload.name}, read", name, "B over payload", values)


@needs_counters
def test_miss_reads_nothing(field, results, workload):
    limits.drop_caches()
    before = field.counters(OWN)
    field.contestants[OWN].has(range(workload.blocks), absent=True)
    reads = field.counters(OWN).since(before).reads / workload.blocks
    results.add(f"device reads per miss, {workload.name}", OWN, "reads", [reads])


def test_delete(benchmark, field, results, workload):
    def deletes_of(contestant: Contestant) -> Round:
        numbers = count()

        def prepare():
            contestant.prepare(Blocks(f"delete/{next(numbers)}", workload))
            contestant.put()
            return contestant.delete

        return prepare

    contestants = {name: deletes_of(one) for name, one in field.contestants.items()}
    for name, values in race(benchmark, OWN, contestants, DELETE_ROUNDS).items():
        results.add(f"delete {workload.name}", name, "/s", values)


def test_delete_until_the_space_is_back(benchmark, field, results, workload):
    def deletes_of(name: str, contestant: Contestant) -> Round:
        numbers = count()

        def run() -> float:
            amount = contestant.delete().amount
            if name == OWN:
                field.own.store.compact()
            return amount

        def prepare():
            contestant.prepare(Blocks(f"back/{next(numbers)}", workload))
            contestant.put()
            return run

        return prepare

    names = [name for name in (OWN, *FLAT) if name in field.contestants]
    contestants = {name: deletes_of(name, field.contestants[name]) for name in names}
    for name, values in race(benchmark, OWN, contestants, DELETE_ROUNDS).items():
        results.add(f"delete and reclaim {workload.name}", name, "/s", values)


def test_single_durable_put(benchmark, bench_folder, results, disk):
    field = Contest(bench_folder / "single", SINGLE_PUT.disk_size_bytes)
    contestants = put_rounds(field, SINGLE_PUT, "single")
    contestants["limit: 4 KiB + flush"] = lambda: disk.flushed_pages(SINGLE_PUT.batches)
    before = field.settled()
    pieces: dict[str, list[float]] = {}
    rates = race(benchmark, OWN, contestants, pieces=pieces)
    for name, values in rates.items():
        more = {}
        if name in field.contestants:
            more = {f"p{p}_ms": percentile(pieces[name], p) * 1e3 for p in (50, 99)}
        results.add("single durable put", name, "/s", values, **more)
    puts = len(rates[OWN]) * SINGLE_PUT.blocks
    for name, now in field.settled().items():
        spent = now.since(before[name])
        results.add("flushes per single put", name, "flushes", [spent.flushes / puts])
        results.add("device reads per single put", name, "reads", [spent.reads / puts])
    field.close()


@pytest.mark.parametrize("size", BLOCKS[2:], ids=lambda workload: workload.name)
def test_ingest_hashing_included(benchmark, bench_folder, results, disk, size):
    field = Contest(bench_folder / f"hashed-{size.size_bytes}", size.disk_size_bytes, (OWN,))
    store = field.own.store
    contestants: dict[str, Round] = {
        OWN: engine.ingest(store, size, threads=max(2, limits.CORES)),
        "blkdev, one thread": engine.ingest(store, size, threads=1),
        "limit: sha2-256, all cores": lambda: limits.sha256_on_all_cores(
            size.size_bytes, size.total_bytes
        ),
        "limit: disk write": disk.sequential_write,
        "limit: both at once": lambda: disk.hash_and_write(
            size.size_bytes, size.batch_count, size.batches
        ),
    }
    for name, values in race(benchmark, OWN, contestants).items():
        results.add(f"ingest {size.name}, hashed", name, "MB/s", values)
    field.close()


@pytest.mark.parametrize("size", BLOCKS[:2], ids=lambda workload: workload.name)
def test_open_after_a_crash(benchmark, bench_folder, results, size):
    path = engine.new_store(bench_folder / f"crash-{size.size_bytes}.blk")

    def prepare():
        engine.crash(path, size.size_bytes)
        return lambda: engine.open_and_close(path)

    rates = race(benchmark, OWN, {OWN: prepare})
    path.unlink()
    results.add(
        f"open after a crash, 64 MiB of {size.name}", OWN, "ms", [1e3 / v for v in rates[OWN]]
    )


@needs_counters
@pytest.mark.parametrize("full", [0.5, 0.75], ids=lambda full: f"{full:.0%}")
def test_write_amplification_under_compaction(bench_folder, results, full):
    field = Contest(bench_folder / f"churn-{full}", engine.CHURN_DISK_BYTES, (OWN,))
    store = field.own.store
    keys = engine.fill(store, full)
    engine.replace(store, keys)
    before = field.settled()[OWN]
    payload = engine.replace(store, keys)
    written = field.settled()[OWN].since(before).write_bytes
    share = store.stats().live_bytes / store.stats().capacity_bytes
    field.close()
    what = f"written, replacing blocks of a store {full:.0%} full"
    results.add(what, OWN, "x payload", [written / payload])
    results.add(what, "limit: 1 / (1 - u)", "x payload", [1 / (1 - share)])


def test_space_comes_back_while_writing(bench_folder, results):
    field = Contest(bench_folder / "back", engine.CHURN_DISK_BYTES, (OWN,))
    back = engine.space_back(field.own.store)
    field.close()
    results.add("dead space given back", OWN, "%", [back.reclaimed_percent])
    results.add("writer's wait during compaction", OWN, "ms", [max(back.waits_s) * 1e3])
    results.add("writer's wait, p99", OWN, "ms", [percentile(back.waits_s, 99) * 1e3])


def test_contestants_are_the_installed_ones(field):
    assert OWN in field.contestants
    assert set(contest.go_contestants()) <= set(field.contestants)
