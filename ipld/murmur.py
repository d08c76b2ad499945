"""The hash that places names in a sharded directory: the first half of MurmurHash3 x64-128, seed 0.

Not cryptographic: whoever chooses names can make them collide, so nothing may rely on two names
having different hashes (the HAMT answers with `HashExhausted`).
"""

from __future__ import annotations

import mmh3

from ipld.varint import BytesLike

# The multicodec that a shard states as its hashType.
MURMUR3_X64_64 = 0x22
HASH_BITS = 64


def hash64(name: BytesLike) -> int:
    """64 unsigned bits; their most significant ones choose the slot in the root shard."""
    return mmh3.mmh3_x64_128_utupledigest(name)[0]
