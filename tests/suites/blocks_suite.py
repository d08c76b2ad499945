"""Conformance of a store: one suite for every implementation of `repo.interface.Backend`.

A test module makes a class of `StoreSuite` and gives it `new_store`, which returns a `Driver`.
"""

import random
import threading
from typing import Protocol

import pytest

from ipld import cid as cids
from ipld import multihash as multihashes
from ipld.block import Block
from repo.errors import BlockDamaged, BlockNotFound, StoreFull
from repo.interface import Backend

ROOMY_BYTES = 64 << 20
TIGHT_BYTES = 4 << 20


class Driver(Protocol):
    """What the suite does to a store from outside."""

    backend: Backend

    def reopen(self) -> Backend:
        """Close cleanly and open again."""

    def crash(self) -> Backend:
        """Cut the power, losing what was not committed, and open again."""

    def damage(self, block: Block) -> None:
        """Change a byte of a committed block behind the store's back."""

    def close(self) -> None:
        """End of the test."""


def block_of(data: bytes, codec: int = cids.RAW, function: str = "sha2-256") -> Block:
    multihash = multihashes.digest_multihash(function, data)
    return Block(cids.make(1, codec, multihash), data)


def blocks_of(count: int, size_bytes: int = 300, seed: int = 1) -> list[Block]:
    rng = random.Random(seed)
    return [block_of(rng.randbytes(size_bytes)) for _ in range(count)]


class StoreSuite:
    """Inherited by one test class per implementation."""

    def new_store(self, tmp_path, size_bytes: int) -> Driver:
        raise NotImplementedError

    @pytest.fixture
    def driver(self, tmp_path):
        driver = self.new_store(tmp_path, ROOMY_BYTES)
        yield driver
        driver.close()

    @pytest.fixture
    def tight(self, tmp_path):
        driver = self.new_store(tmp_path, TIGHT_BYTES)
        yield driver
        driver.close()

    @pytest.fixture
    def blocks(self, driver):
        return driver.backend.blocks

    @pytest.fixture
    def names(self, driver):
        return driver.backend.names

    # ------------------------------------------------------------------------------ blocks

    @pytest.mark.parametrize("size", [0, 1, 300, 4095, 4096, 4097, 100_000, 1 << 20, 2 << 20])
    def test_block_comes_back_as_it_was_put(self, blocks, size):
        block = block_of(random.Random(size).randbytes(size))
        assert blocks.put_many([block]) == 1
        assert blocks.get(block.cid) == block.data
        assert type(blocks.get(block.cid)) is bytes
        assert blocks.has(block.cid)
        assert blocks.size_of(block.cid) == size

    @pytest.mark.parametrize("size", [0, 1, 300, 100_000, 1 << 20])
    def test_parts_of_a_block_are_what_slices_of_it_are(self, driver, size):
        block = block_of(random.Random(size).randbytes(size))
        blocks = driver.backend.blocks
        blocks.put_many([block])
        bounds = [(0, size), (0, 10), (size // 2, 4096), (max(0, size - 3), 10), (size + 5, 7)]
        for state in ("staged", "committed", "verified"):
            for start, length in bounds:
                part = blocks.get_part(block.cid, start, length)
                assert part == block.data[start : start + length], (state, start, length)
            driver.backend.commit()
        assert type(part) is bytes

    def test_parts_are_of_identity_and_long_multihashes_too(self, blocks):
        identity = cids.make(1, cids.RAW, b"\0\x05hello")
        assert blocks.get_part(identity, 1, 3) == b"ell"
        long = block_of(b"0123456789" * 100, function="sha2-512")
        blocks.put_many([long])
        for _ in range(2):
            assert blocks.get_part(long.cid, 8, 4) == b"8901"

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_block_may_be_any_buffer_and_is_copied(self, blocks, kind):
        data = bytearray(b"buffer of the caller" * 50)
        block = Block(block_of(bytes(data)).cid, kind(data))
        blocks.put_many([block])
        data[:] = bytes(len(data))
        assert blocks.get(block.cid) == b"buffer of the caller" * 50

    def test_missing_block_is_not_found_by_any_call(self, blocks):
        cid = block_of(b"never put").cid
        assert not blocks.has(cid)
        with pytest.raises(BlockNotFound) as caught:
            blocks.get(cid)
        assert caught.value.cid == cid
        with pytest.raises(BlockNotFound):
            blocks.get_part(cid, 0, 10)
        with pytest.raises(BlockNotFound):
            blocks.size_of(cid)
        with pytest.raises(BlockNotFound), blocks.view(cid):
            pytest.fail("entered a view of nothing")

    def test_one_block_answers_under_every_version_and_codec(self, blocks):
        block = block_of(b"shared", cids.DAG_PB)
        multihash = cids.multihash_of(block.cid)
        blocks.put_many([block])
        for cid in (multihash, cids.make(1, cids.RAW, multihash)):
            assert blocks.get(cid) == b"shared"
            assert blocks.put_many([Block(cid, b"shared")]) == 0
        assert list(blocks.keys()) == [multihash]

    def test_identity_cid_is_always_here_and_never_stored(self, blocks):
        block = block_of(b"inline", function="identity")
        assert blocks.has(block.cid)
        assert blocks.get(block.cid) == b"inline"
        assert blocks.size_of(block.cid) == 6
        with blocks.view(block.cid) as view:
            assert view == b"inline"
        assert blocks.put_many([block]) == 0
        assert list(blocks.keys()) == []

    @pytest.mark.parametrize("function", ["sha2-256", "sha2-512", "blake3", "blake2b-256"])
    def test_every_hash_function_is_stored_and_verified(self, driver, function):
        data = b"hashed in another way" * 20
        block = block_of(data, function=function)
        driver.backend.blocks.put_many([block])
        driver.backend.commit()
        blocks = driver.reopen().blocks
        assert list(blocks.keys()) == [cids.multihash_of(block.cid)]
        assert blocks.get(block.cid) == data
        assert blocks.size_of(block.cid) == len(data)
        with blocks.view(block.cid) as view:
            assert view == data
        assert blocks.delete_many([cids.multihash_of(block.cid)]) == 1
        assert not blocks.has(block.cid)

    def test_duplicates_are_counted_once(self, blocks):
        some = blocks_of(10)
        assert blocks.put_many(some + some) == 10
        assert blocks.put_many(iter(some)) == 0
        assert blocks.stats().count == 10

    def test_lazy_iterable_is_stored(self, blocks):
        some = blocks_of(500)
        assert blocks.put_many(block for block in some) == 500
        assert all(blocks.get(block.cid) == block.data for block in some)

    def test_error_of_the_callers_iterable_passes_through(self, blocks):
        some = blocks_of(3)

        def failing():
            yield from some
            raise RuntimeError("caller's own")

        with pytest.raises(RuntimeError, match="caller's own"):
            blocks.put_many(failing())
        blocks.put_many(some)
        assert all(blocks.get(block.cid) == block.data for block in some)

    def test_view_is_read_only_and_ends_with_its_block(self, blocks):
        block = blocks_of(1, 100_000)[0]
        blocks.put_many([block])
        with blocks.view(block.cid) as view:
            assert view == block.data
            assert view.readonly
            assert view.nbytes == 100_000
        with pytest.raises(ValueError, match="released"):
            view[0]

    def test_view_does_not_swallow_the_callers_error(self, blocks):
        block = blocks_of(1)[0]
        blocks.put_many([block])
        with pytest.raises(ZeroDivisionError), blocks.view(block.cid):
            raise ZeroDivisionError

    def test_deleted_block_is_gone_and_can_come_back(self, blocks):
        some = blocks_of(20)
        blocks.put_many(some)
        gone = [cids.multihash_of(block.cid) for block in some[:5]]
        assert blocks.delete_many([*gone, b"\x12\x20" + bytes(32)]) == 5
        assert blocks.delete_many(gone) == 0
        assert not any(blocks.has(block.cid) for block in some[:5])
        assert all(blocks.get(block.cid) == block.data for block in some[5:])
        assert blocks.put_many(some) == 5
        assert all(blocks.get(block.cid) == block.data for block in some)

    def test_delete_before_a_position_spares_what_is_newer(self, blocks):
        old, new = blocks_of(2)
        blocks.put_many([old])
        position = blocks.position()
        blocks.put_many([new])
        both = [cids.multihash_of(old.cid), cids.multihash_of(new.cid)]
        assert blocks.delete_many(both, before=position) == 1
        assert not blocks.has(old.cid)
        assert blocks.has(new.cid)

    def test_block_put_again_after_deletion_counts_as_new(self, blocks):
        block = blocks_of(1)[0]
        blocks.put_many([block])
        blocks.delete_many([cids.multihash_of(block.cid)])
        position = blocks.position()
        blocks.put_many([block])
        assert blocks.delete_many([cids.multihash_of(block.cid)], before=position) == 0

    def test_keys_are_exactly_what_is_stored(self, blocks):
        some = blocks_of(300)
        blocks.put_many(some)
        blocks.delete_many(cids.multihash_of(block.cid) for block in some[::3])
        left = [block for at, block in enumerate(some) if at % 3]
        assert sorted(blocks.keys()) == sorted(cids.multihash_of(block.cid) for block in left)

    def test_keys_survive_writes_during_the_iteration(self, blocks):
        some = blocks_of(300)
        blocks.put_many(some[:100])
        keys = blocks.keys()
        seen = [next(keys)]
        blocks.put_many(some[100:])
        blocks.delete_many(cids.multihash_of(block.cid) for block in some[50:100])
        seen.extend(keys)
        assert {cids.multihash_of(block.cid) for block in some[:50]} <= set(seen)
        assert len(seen) == len(set(seen))

    def test_stats_are_exact(self, blocks):
        empty = blocks.stats()
        some = blocks_of(100, 1000)
        blocks.put_many(some)
        full = blocks.stats()
        assert full.count - empty.count == 100
        assert 100_000 <= full.live_bytes - empty.live_bytes <= 100_000 + 100 * 128
        blocks.delete_many(cids.multihash_of(block.cid) for block in some[:30])
        less = blocks.stats()
        assert less.count == 70
        assert full.live_bytes - less.live_bytes >= 30_000 - 4096
        blocks.put_many(some)
        assert blocks.stats().count == 100

    # ------------------------------------------------------------------------------ damage

    @pytest.mark.parametrize("size", [300, 100_000])
    def test_damaged_block_is_an_error_and_never_bytes(self, driver, size):
        bad, good = blocks_of(2, size)
        driver.backend.blocks.put_many([bad, good])
        driver.backend.commit()
        driver.damage(bad)
        blocks = driver.backend.blocks
        for _ in range(2):
            with pytest.raises(BlockDamaged) as caught:
                blocks.get(bad.cid)
            assert caught.value.cid == bad.cid
            with pytest.raises(BlockDamaged), blocks.view(bad.cid):
                pytest.fail("entered a view of damaged bytes")
            with pytest.raises(BlockDamaged):
                blocks.get_part(bad.cid, 0, 10)
        assert blocks.get(good.cid) == good.data

    def test_damaged_block_can_be_replaced(self, driver):
        bad = blocks_of(1)[0]
        blocks = driver.backend.blocks
        blocks.put_many([bad])
        driver.backend.commit()
        driver.damage(bad)
        with pytest.raises(BlockDamaged):
            blocks.get(bad.cid)
        blocks.delete_many([cids.multihash_of(bad.cid)])
        blocks.put_many([bad])
        assert blocks.get(bad.cid) == bad.data

    # -------------------------------------------------------------------------- durability

    def test_committed_blocks_survive_a_crash(self, driver):
        some = blocks_of(200)
        driver.backend.blocks.put_many(some)
        driver.backend.commit()
        blocks = driver.crash().blocks
        assert all(blocks.get(block.cid) == block.data for block in some)

    def test_committed_deletion_survives_a_crash(self, driver):
        some = blocks_of(20)
        driver.backend.blocks.put_many(some)
        driver.backend.commit()
        driver.backend.blocks.delete_many(cids.multihash_of(block.cid) for block in some[:10])
        driver.backend.commit()
        blocks = driver.crash().blocks
        assert [blocks.has(block.cid) for block in some] == [False] * 10 + [True] * 10

    def test_crash_leaves_a_store_that_works_on(self, driver):
        first, second = blocks_of(100), blocks_of(100, seed=2)
        driver.backend.blocks.put_many(first)
        driver.backend.commit()
        driver.backend.blocks.put_many(second)
        blocks = driver.crash().blocks
        for block in second:
            if blocks.has(block.cid):
                assert blocks.get(block.cid) == block.data
        blocks.put_many(second)
        assert all(blocks.get(block.cid) == block.data for block in first + second)

    def test_close_commits(self, driver):
        some = blocks_of(50)
        driver.backend.blocks.put_many(some)
        driver.backend.names.set_names({b"root/main": b"value"})
        backend = driver.reopen()
        assert all(backend.blocks.get(block.cid) == block.data for block in some)
        assert backend.names.name(b"root/main") == b"value"

    def test_full_store_refuses_and_stays_readable(self, tight):
        blocks = tight.backend.blocks
        some = blocks_of(400, 16 << 10)
        with pytest.raises(StoreFull, match="delete something and run gc"):
            blocks.put_many(some)
        stored = [block for block in some if blocks.has(block.cid)]
        assert stored
        assert len(stored) < len(some)
        assert all(blocks.get(block.cid) == block.data for block in stored)

    def test_full_store_can_delete_name_commit_and_go_on(self, tight):
        backend = tight.backend
        some = blocks_of(400, 16 << 10)
        with pytest.raises(StoreFull):
            backend.blocks.put_many(some)
        stored = [block for block in some if backend.blocks.has(block.cid)]
        half = len(stored) // 2
        backend.blocks.delete_many(cids.multihash_of(block.cid) for block in stored[:half])
        backend.names.set_names({b"root/main": b"still possible"})
        backend.commit()
        backend.reclaim()
        again = blocks_of(half // 2, 16 << 10, seed=3)
        backend.blocks.put_many(again)
        backend.commit()
        backend = tight.reopen()
        assert all(backend.blocks.get(b.cid) == b.data for b in stored[half:] + again)
        assert backend.names.name(b"root/main") == b"still possible"

    # ------------------------------------------------------------------------------- names

    def test_names_are_set_replaced_and_removed(self, names):
        assert names.name(b"a") is None
        names.set_names({b"a": b"1", b"b": b"2"})
        names.set_names({b"a": b"3", b"b": None, b"never": None})
        assert names.name(b"a") == b"3"
        assert names.name(b"b") is None
        assert names.names() == [(b"a", b"3")]

    def test_names_are_listed_by_prefix_and_sorted(self, names):
        every = {b"root/b": b"1", b"root/a": b"2", b"rooz": b"3", b"pin/x": b"4", b"root/": b""}
        names.set_names(every)
        assert names.names(b"root/") == [(b"root/", b""), (b"root/a", b"2"), (b"root/b", b"1")]
        assert names.names() == sorted(every.items())
        assert names.names(b"zzz") == []

    def test_largest_name_and_value_are_kept(self, driver):
        name, value = b"n" * 1024, b"v" * (64 << 10)
        driver.backend.names.set_names({name: value})
        driver.backend.commit()
        assert driver.crash().names.name(name) == value

    def test_committed_names_survive_a_crash_together(self, driver):
        driver.backend.names.set_names({b"a": b"old", b"b": b"old"})
        driver.backend.commit()
        driver.backend.names.set_names({b"a": b"new", b"b": None, b"c": b"new"})
        names = driver.crash().names
        found = (names.name(b"a"), names.name(b"b"), names.name(b"c"))
        assert found in ((b"old", b"old", None), (b"new", None, b"new"))
        names.set_names({b"a": b"newest"})
        driver.backend.commit()
        assert driver.crash().names.name(b"a") == b"newest"

    def test_name_is_never_older_than_the_blocks_before_it(self, driver):
        """The order of the log: whoever sees the ref finds its blocks."""
        for round_ in range(5):
            some = blocks_of(20, seed=round_)
            driver.backend.blocks.put_many(some)
            driver.backend.names.set_names({b"head": bytes([round_])})
            if round_ % 2:
                driver.backend.commit()
            backend = driver.crash()
            if backend.names.name(b"head") == bytes([round_]):
                assert all(backend.blocks.get(block.cid) == block.data for block in some)

    # ----------------------------------------------------------------------------- journal

    def test_journal_replays_in_order(self, driver):
        journal = driver.backend.journal(3)
        positions = [journal.append(b"record %d" % n) for n in range(10)]
        assert positions == sorted(set(positions))
        assert [record for _, record in journal.replay()] == [b"record %d" % n for n in range(10)]
        assert [position for position, _ in journal.replay()] == positions

    def test_journal_streams_are_separate(self, driver):
        driver.backend.journal(1).append(b"one")
        driver.backend.journal(65535).append(b"last")
        assert [record for _, record in driver.backend.journal(1).replay()] == [b"one"]
        assert [record for _, record in driver.backend.journal(65535).replay()] == [b"last"]
        assert list(driver.backend.journal(2).replay()) == []

    def test_trimmed_records_are_not_replayed(self, driver):
        journal = driver.backend.journal(1)
        positions = [journal.append(b"%d" % n) for n in range(6)]
        journal.trim(positions[3])
        assert [record for _, record in journal.replay()] == [b"4", b"5"]
        driver.backend.commit()
        journal = driver.crash().journal(1)
        assert [record for _, record in journal.replay()] == [b"4", b"5"]

    def test_journal_survives_reopen_and_goes_on(self, driver):
        journal = driver.backend.journal(1)
        first = journal.append(b"before")
        journal = driver.reopen().journal(1)
        second = journal.append(b"after")
        assert second > first
        assert [record for _, record in journal.replay()] == [b"before", b"after"]

    def test_crash_keeps_a_prefix_of_the_journal(self, driver):
        journal = driver.backend.journal(1)
        for n in range(5):
            journal.append(b"%d" % n)
        driver.backend.commit()
        for n in range(5, 10):
            journal.append(b"%d" % n)
        records = [record for _, record in driver.crash().journal(1).replay()]
        assert len(records) >= 5
        assert records == [b"%d" % n for n in range(len(records))]

    def test_large_and_empty_records_are_replayed(self, driver):
        large = random.Random(5).randbytes(4 << 20)
        for record in (b"", large, b"x"):
            driver.backend.journal(9).append(record)
        driver.backend.commit()
        records = [record for _, record in driver.crash().journal(9).replay()]
        assert records == [b"", large, b"x"]

    # ----------------------------------------------------------------------------- threads

    def test_readers_writers_and_deleters_do_not_disturb_each_other(self, driver):
        backend = driver.backend
        stable = blocks_of(50, 5000)
        backend.blocks.put_many(stable)
        errors: list[BaseException] = []

        def run(work, seed):
            try:
                work(random.Random(seed))
            except BaseException as error:
                errors.append(error)

        def read(rng):
            for _ in range(300):
                block = rng.choice(stable)
                assert backend.blocks.get(block.cid) == block.data
                with backend.blocks.view(block.cid) as view:
                    assert view == block.data

        def write(rng):
            for _ in range(20):
                some = [block_of(rng.randbytes(2000)) for _ in range(10)]
                backend.blocks.put_many(some)
                backend.commit()
                backend.blocks.delete_many(cids.multihash_of(block.cid) for block in some[:5])
                assert all(backend.blocks.get(b.cid) == b.data for b in some[5:])

        threads = [
            threading.Thread(target=run, args=(work, seed))
            for seed, work in enumerate((read, read, write, write))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert backend.blocks.stats().count == 50 + 2 * 20 * 5
