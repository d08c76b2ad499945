"""The repository as its users hold it."""

import pytest

from ipld import cid as cids
from repo.backend_memory import MemoryBackend
from repo.errors import BlockNotFound, BlockUnavailable, StoreFull
from repo.refs import Ref
from repo.service import Repo
from tests.repo.dags import leaf, tree
from tests.suites.blocks_suite import blocks_of


class CountingBlocks:
    """Passes on to a store and notes how many blocks each call brought."""

    def __init__(self, blocks):
        self.inner = blocks
        self.batches: list[int] = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def put_many(self, blocks):
        blocks = list(blocks)
        self.batches.append(len(blocks))
        return self.inner.put_many(blocks)


def test_missing_block_is_unavailable_and_names_its_cid():
    repo = Repo.in_memory()
    cid = leaf("missing").cid
    with pytest.raises(BlockUnavailable, match=cids.to_text(cid)) as caught:
        repo.get(cid)
    assert caught.value.cid == cid
    with pytest.raises(BlockUnavailable), repo.view(cid):
        pytest.fail("entered a view of nothing")
    assert issubclass(BlockUnavailable, BlockNotFound)


def test_view_is_the_blocks_bytes():
    repo = Repo.in_memory()
    repo.put(leaf("x"))
    with repo.view(leaf("x").cid) as view:
        assert bytes(view) == b"x"


def test_endless_input_is_stored_in_bounded_batches():
    repo = Repo.in_memory()
    counting = CountingBlocks(repo.blocks)
    repo.blocks = counting
    assert repo.put_many(block for block in blocks_of(1000)) == 1000
    assert max(counting.batches) <= 128
    counting.batches.clear()
    repo.put_many(blocks_of(20, 1 << 20))
    assert max(counting.batches) <= 4


def test_repository_reopens_with_blocks_refs_and_journals():
    backend = MemoryBackend()
    repo = Repo.in_memory(backend)
    root, blocks = tree("kept")
    repo.put_many(blocks)
    repo.refs.update({"root/main": Ref(links=(root.cid,))})
    repo.journal(1).append(b"record")
    repo.close()
    again = Repo.in_memory(backend)
    assert again.refs.require("root/main").links == (root.cid,)
    assert all(again.get(block.cid) == block.data for block in blocks)
    assert [record for _, record in again.journal(1).replay()] == [b"record"]


def test_commit_is_one_commit_of_the_store():
    backend = MemoryBackend()
    repo = Repo.in_memory(backend)
    repo.put_many(blocks_of(10))
    repo.refs.update({"a": Ref()})
    repo.journal(1).append(b"x")
    assert backend.log.commit_count == 0
    repo.commit()
    assert backend.log.commit_count == 1


def test_uncommitted_ref_is_lost_with_its_blocks_and_never_alone():
    backend = MemoryBackend()
    repo = Repo.in_memory(backend)
    root, blocks = tree("lost")
    repo.put_many(blocks)
    repo.refs.update({"a": Ref(links=(root.cid,))})
    writes = backend.log.uncommitted_count()
    backend.crash(writes - 1)
    assert repo.refs.get("a") is None
    assert repo.has(root.cid)


def test_full_store_says_what_to_do_and_gc_makes_room():
    repo = Repo.in_memory(MemoryBackend(100_000))
    with pytest.raises(StoreFull, match="your data is safe; delete something and run gc"):
        repo.put_many(blocks_of(20, 10_000))
    report = repo.gc()
    assert report.freed_bytes == 100_000
    assert repo.put_many(blocks_of(10, 10_000)) == 10


def test_has_without_a_lease_touches_nothing():
    repo = Repo.in_memory()
    repo.put(leaf("x"))
    assert repo.has(leaf("x").cid)
    assert repo.gc().freed_count == 1


def test_error_inside_a_view_is_the_callers_own():
    repo = Repo.in_memory()
    repo.put(leaf("x"))
    other = leaf("other").cid
    with pytest.raises(BlockNotFound) as caught, repo.view(leaf("x").cid):
        raise BlockNotFound(other)
    assert type(caught.value) is BlockNotFound
