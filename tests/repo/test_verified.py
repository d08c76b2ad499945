"""Verified reads: hashed at first, remembered within bounds, forgotten with the block."""

from unittest import mock

import pytest

from ipld import cid as cids
from ipld.block import Block
from repo.blocks_memory import MemoryBlocks
from repo.errors import BlockDamaged
from repo.verified import Verified
from tests.suites.blocks_suite import blocks_of


@pytest.fixture
def hashed():
    """Counts how often a block was compared with its hash."""
    with mock.patch.object(Block, "matches", wraps=Block.matches) as matches:
        yield matches


def test_first_read_hashes_and_the_second_does_not(hashed):
    blocks, block = MemoryBlocks(), blocks_of(1)[0]
    blocks.put_many([block])
    assert hashed.call_count == 0
    for _ in range(3):
        blocks.get(block.cid)
        with blocks.view(block.cid):
            pass
    assert hashed.call_count == 1


def test_block_is_hashed_again_after_it_was_deleted(hashed):
    blocks, block = MemoryBlocks(), blocks_of(1)[0]
    blocks.put_many([block])
    blocks.get(block.cid)
    blocks.delete_many([cids.multihash_of(block.cid)])
    blocks.put_many([block])
    blocks.get(block.cid)
    assert hashed.call_count == 2


def test_block_is_hashed_again_once_the_set_forgot_it():
    verified = Verified(count_max=8)
    some = blocks_of(50)
    for block in some:
        verified.check(block.cid, block.cid[2:], block.data)
    assert not verified.is_known(some[0].cid[2:])
    assert verified.is_known(some[-1].cid[2:])


def test_wrong_bytes_are_never_remembered():
    verified = Verified()
    block = blocks_of(1)[0]
    for _ in range(2):
        with pytest.raises(BlockDamaged):
            verified.check(block.cid, block.cid[2:], b"other bytes")
        assert not verified.is_known(block.cid[2:])


def test_cleared_set_trusts_nothing():
    verified = Verified()
    block = blocks_of(1)[0]
    verified.check(block.cid, block.cid[2:], block.data)
    verified.clear()
    assert not verified.is_known(block.cid[2:])


def test_what_is_asked_for_between_two_turns_stays_known():
    verified = Verified(count_max=8)
    first, *others = blocks_of(40)
    verified.check(first.cid, first.cid[2:], first.data)
    for block in others:
        verified.check(block.cid, block.cid[2:], block.data)
        assert verified.is_known(first.cid[2:])
    assert len(verified) <= 10


def test_forgotten_block_is_unknown_in_both_generations():
    verified = Verified(count_max=8)
    some = blocks_of(8)
    for block in some:
        verified.check(block.cid, block.cid[2:], block.data)
    for block in some:
        verified.forget(block.cid[2:])
        assert not verified.is_known(block.cid[2:])
    assert len(verified) == 0


def test_views_of_the_engine_add_to_the_set_and_turn_it():
    verified = Verified(count_max=8)
    verified.recent |= {bytes([number]) for number in range(5)}
    verified.turn()
    assert verified.recent == set()
    assert verified.is_known(b"\0")
    assert verified.recent == {b"\0"}
