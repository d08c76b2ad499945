"""Blocks: what is built verifies, what was changed does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import cid as cids
from ipld.block import BLOCK_SIZE_MAX_BYTES, Block
from ipld.errors import BlockTooLarge, HashMismatch, InvalidCid
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025

INLINE = UNIXFS_V0_2015.with_options(inline=True)
PROFILES = (
    UNIXFS_V0_2015,
    UNIXFS_V1_2025,
    UNIXFS_V1_2025.with_options(hash_function="blake3"),
    INLINE,
)


@given(st.binary(max_size=200), st.sampled_from((cids.RAW, cids.DAG_PB)), st.sampled_from(PROFILES))
def test_a_built_block_verifies(data, codec, profile):
    block = Block.build(data, codec, profile)
    assert Block.verify(block.cid, data) == block
    assert cids.codec_of(block.cid) == codec


@given(st.binary(min_size=1, max_size=200), st.integers(0, 10**6), st.sampled_from(PROFILES))
def test_a_flipped_bit_is_found(data, place, profile):
    block = Block.build(data, cids.RAW, profile)
    changed = bytearray(data)
    changed[place % len(data)] ^= 1 << place % 8
    with pytest.raises(HashMismatch):
        Block.verify(block.cid, changed)


def test_the_codec_decides_over_the_version():
    assert cids.decode(Block.build(b"", cids.DAG_PB, UNIXFS_V0_2015).cid).version == 0
    assert cids.decode(Block.build(b"", cids.RAW, UNIXFS_V0_2015).cid).version == 1


def test_blocks_up_to_the_inline_limit_are_inlined():
    for size, inlined in ((0, True), (32, True), (33, False)):
        block = Block.build(bytes(size), cids.DAG_PB, INLINE)
        assert cids.is_identity(block.cid) is inlined


def test_a_view_is_hashed_without_becoming_bytes():
    view = memoryview(bytearray(b"view"))
    assert Block.build(view, cids.RAW, UNIXFS_V1_2025).data is view


def test_the_size_limit_is_inclusive():
    largest = bytes(BLOCK_SIZE_MAX_BYTES)
    block = Block.build(largest, cids.RAW, UNIXFS_V1_2025)
    assert Block.verify(block.cid, largest)
    for data in (largest + b"\0",):
        with pytest.raises(BlockTooLarge):
            Block.build(data, cids.RAW, UNIXFS_V1_2025)
        with pytest.raises(BlockTooLarge):
            Block.verify(block.cid, data)


def test_a_bad_cid_is_no_mismatch():
    with pytest.raises(InvalidCid):
        Block.verify(b"\x01\x55\x12", b"")


def test_equal_blocks_are_one_key():
    first, second = (Block.build(b"same", cids.RAW, UNIXFS_V1_2025) for _ in range(2))
    assert {first} == {second}
    assert first != b"same"
    assert "4 bytes" in repr(first)
