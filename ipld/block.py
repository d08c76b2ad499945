"""A block: bytes together with the CID that they hash to.

This is the only place where a hash is compared with a CID. A `Block` is made by `build` (we hashed
the bytes) or by `verify` (we checked them), so holding one means that the two belong together.
"""

from __future__ import annotations

from ipld import cid as cids
from ipld import multihash
from ipld.errors import BlockTooLarge, HashMismatch
from ipld.profile import BLOCK_SIZE_MAX_BYTES, Profile
from ipld.varint import BytesLike

__all__ = ["BLOCK_SIZE_MAX_BYTES", "Block", "BytesLike"]


class Block:
    """An immutable pair. `data` may be a view, which lives as long as its maker's buffer."""

    __slots__ = ("cid", "data")

    def __init__(self, cid: bytes, data: BytesLike) -> None:
        self.cid = cid
        self.data = data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Block):
            return NotImplemented
        return self.cid == other.cid and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.cid)

    def __repr__(self) -> str:
        return f"Block({cids.to_text(self.cid)}, {len(self.data)} bytes)"

    @staticmethod
    def build(data: BytesLike, codec: int, profile: Profile) -> Block:
        """Hash `data` as the profile says; blocks up to its inline limit become identity CIDs.

        Version 0 has no way to say any codec but dag-pb: other codecs get version 1.
        Raises BlockTooLarge.
        """
        size = len(data)
        if size > BLOCK_SIZE_MAX_BYTES:
            raise BlockTooLarge(f"block of {size} bytes (limit {BLOCK_SIZE_MAX_BYTES})")
        if profile.inline and size <= profile.inline_limit_bytes:
            return Block(cids.make(1, codec, multihash.digest_multihash("identity", data)), data)
        hashed = multihash.digest_multihash(profile.hash_function, data)
        version = profile.cid_version if codec == cids.DAG_PB else 1
        return Block(cids.make(version, codec, hashed), data)

    @staticmethod
    def verify(cid: bytes, data: BytesLike) -> Block:
        """Bytes from elsewhere, checked. Raises HashMismatch, BlockTooLarge, InvalidCid."""
        if not Block.matches(cids.multihash_of(cid), data):
            raise HashMismatch(f"{len(data)} bytes do not hash to {cids.to_text(cid)}")
        return Block(cid, data)

    @staticmethod
    def matches(hashed: bytes, data: BytesLike) -> bool:
        """Whether the bytes have this multihash. Raises BlockTooLarge, InvalidCid."""
        if len(data) > BLOCK_SIZE_MAX_BYTES:
            raise BlockTooLarge(f"block of {len(data)} bytes (limit {BLOCK_SIZE_MAX_BYTES})")
        return multihash.verify(hashed, data)
