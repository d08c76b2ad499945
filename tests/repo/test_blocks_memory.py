"""The in-memory store: the conformance suite, and the power cuts that only it can place freely."""

import pytest

from ipld.block import Block
from repo.backend_memory import MemoryBackend
from repo.errors import StoreFull
from tests.suites.blocks_suite import StoreSuite, blocks_of


class MemoryDriver:
    def __init__(self, size_bytes: int) -> None:
        self.backend = MemoryBackend(size_bytes)

    def reopen(self) -> MemoryBackend:
        self.backend.close()
        return self.backend

    def crash(self) -> MemoryBackend:
        self.backend.crash()
        return self.backend

    def damage(self, block: Block) -> None:
        data = bytearray(block.data)
        data[len(data) // 2] ^= 1
        self.backend.blocks.damage(block.cid, bytes(data))

    def close(self) -> None:
        self.backend.close()


class TestMemory(StoreSuite):
    def new_store(self, tmp_path, size_bytes):
        return MemoryDriver(size_bytes)


def history(backend: MemoryBackend) -> None:
    """Five writes of every kind; none is committed."""
    old, new = blocks_of(2)
    backend.blocks.put_many([new])
    backend.names.set_names({b"head": b"new", b"gone": None})
    backend.journal(1).append(b"record")
    backend.blocks.delete_many([old.cid[2:]])
    backend.journal(1).trim(1 << 30)


def state(backend: MemoryBackend) -> tuple[object, ...]:
    return (
        sorted(backend.blocks.keys()),
        backend.names.names(),
        [record for _, record in backend.journal(1).replay()],
        backend.blocks.stats(),
    )


@pytest.mark.parametrize("kept", range(6))
def test_crash_keeps_exactly_a_prefix_of_the_writes(kept):
    def start() -> MemoryBackend:
        backend = MemoryBackend(1 << 20)
        backend.blocks.put_many(blocks_of(1))
        backend.names.set_names({b"head": b"old", b"gone": b"here"})
        backend.journal(1).append(b"earlier")
        backend.commit()
        return backend

    crashed = start()
    history(crashed)
    assert crashed.log.uncommitted_count() == 5
    crashed.crash(kept)
    expected = start()
    old, new = blocks_of(2)
    steps = [
        lambda: expected.blocks.put_many([new]),
        lambda: expected.names.set_names({b"head": b"new", b"gone": None}),
        lambda: expected.journal(1).append(b"record"),
        lambda: expected.blocks.delete_many([old.cid[2:]]),
        lambda: expected.journal(1).trim(1 << 30),
    ]
    for step in steps[:kept]:
        step()
    assert state(crashed) == state(expected)


def test_commit_ends_what_a_crash_can_take():
    backend = MemoryBackend()
    history(backend)
    backend.commit()
    before = state(backend)
    backend.crash()
    assert state(backend) == before
    assert backend.log.commit_count == 1


def test_capacity_counts_blocks_and_journal_together():
    backend = MemoryBackend(1000)
    backend.journal(1).append(bytes(600))
    with pytest.raises(StoreFull):
        backend.blocks.put_many(blocks_of(1, 500))
    backend.journal(1).trim(backend.blocks.position())
    backend.blocks.put_many(blocks_of(1, 500))
    with pytest.raises(StoreFull):
        backend.journal(1).append(bytes(600))
