"""Where content is cut into leaves.

Chunks of one fixed size are the only ones that Kubo promises to keep stable, and the only ones
where an edit in the middle of a file leaves all other chunks alone; so there is no other splitter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipld.errors import InvalidParameter
from ipld.profile import CHUNK_SIZE_MAX_BYTES
from ipld.varint import BytesLike


def parse(text: str) -> int:
    """Chunk size in bytes of a `--chunker` value. Raises InvalidParameter for all but `size-N`."""
    if text == "default":
        return 256 << 10
    found = re.fullmatch(r"size-([0-9]{1,9})", text)
    if not found:
        raise InvalidParameter(f"chunker {text[:40]!r} is not supported (use size-N, N in bytes)")
    size = int(found[1])
    if not 1 <= size <= CHUNK_SIZE_MAX_BYTES:
        raise InvalidParameter(f"chunk size {size} is out of range (1 to {CHUNK_SIZE_MAX_BYTES})")
    return size


def leaf_count(size_bytes: int, chunk_size_bytes: int) -> int:
    """Leaves of a canonical file of this size; an empty file has one, empty leaf."""
    return max(1, -(-size_bytes // chunk_size_bytes))


def split(data: BytesLike, chunk_size_bytes: int) -> Iterator[memoryview]:
    """Views of the leaves of `data`, without a copy; one empty view for empty data."""
    view = memoryview(data)
    for index in range(leaf_count(len(view), chunk_size_bytes)):
        yield view[index * chunk_size_bytes : (index + 1) * chunk_size_bytes]
