"""A store in memory for tests of DAGs: it counts, and it refuses what is not there."""

from ipld import cid as cids
from ipld.block import Block


class MissingBlockError(Exception):
    """What this store raises; the formats layer must pass it through."""


class MemoryDag:
    """`get` and `put` in the shape that the formats layer asks for."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.gets: list[bytes] = []
        self.puts: list[bytes] = []

    def put(self, block: Block) -> None:
        assert Block.verify(block.cid, block.data)
        self.puts.append(block.cid)
        self.blocks[block.cid] = bytes(block.data)

    def get(self, cid: bytes) -> bytes:
        self.gets.append(cid)
        if cid not in self.blocks:
            raise MissingBlockError(cids.to_text(cid))
        return self.blocks[cid]

    def add(self, data: bytes, codec: int, profile) -> bytes:
        """Put a hand-made block; returns its CID."""
        block = Block.build(data, codec, profile)
        self.put(block)
        return block.cid

    def reset_counts(self) -> None:
        self.gets.clear()
        self.puts.clear()
