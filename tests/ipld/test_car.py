"""CAR files: exact bytes out, every lie in refused, in bounded memory."""

import hashlib
import io
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import car, dagcbor, varint
from ipld import cid as cids
from ipld.block import BLOCK_SIZE_MAX_BYTES, Block
from ipld.car import CarReader, write_car, write_car_v2
from ipld.carindex import IndexBuilder, IndexEntry, decode_index
from ipld.errors import (
    BlockTooLarge,
    HashMismatch,
    InvalidCid,
    MalformedCar,
    TruncatedCar,
    UnsupportedHash,
)
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from tests.ipld.fuzzing import fuzz

V1_HEADER = dagcbor.encode({"roots": [], "version": 1})


def raw_block(data: bytes, hash_function: str = "sha2-256") -> Block:
    profile = UNIXFS_V1_2025.with_options(hash_function=hash_function)
    return Block.build(data, cids.RAW, profile)


BLOCKS = [raw_block(b"%d" % index * index) for index in range(20)]


def v1(roots=(), blocks=()) -> bytes:
    out = io.BytesIO()
    assert write_car(roots, blocks, out.write) == len(out.getvalue())
    return out.getvalue()


def v2(roots=(), blocks=(), *, index=True) -> bytes:
    out = io.BytesIO()
    assert write_car_v2(roots, blocks, out, index=index) == len(out.getvalue()) == out.tell()
    return out.getvalue()


def read(data: bytes) -> list[Block]:
    return list(CarReader(io.BytesIO(data).read))


def section(payload: bytes) -> bytes:
    return varint.encode(len(payload)) + payload


def header(value: object) -> bytes:
    return section(dagcbor.encode(value))


# -------------------------------------------------------------------------------- round trips

block_lists = st.lists(
    st.builds(
        raw_block, st.binary(max_size=300), st.sampled_from(["sha2-256", "sha2-512", "blake3"])
    ),
    max_size=20,
)


@given(block_lists, st.booleans(), st.integers(1, 64))
def test_blocks_and_roots_survive_a_round_trip_over_short_reads(blocks, second_version, piece):
    roots = [block.cid for block in blocks[:3]]
    data = (v2 if second_version else v1)(roots, blocks)
    source = io.BytesIO(data)
    reader = CarReader(lambda size: source.read(min(size, piece)))
    assert reader.version == (2 if second_version else 1)
    assert reader.roots == tuple(roots)
    assert [(block.cid, bytes(block.data)) for block in reader] == [
        (block.cid, block.data) for block in blocks
    ]


def test_file_has_the_bytes_of_the_specification():
    block = raw_block(b"hello")
    data = v1([block.cid], [block])
    link = b"\xd8\x2a\x58\x25\x00" + block.cid
    head = b"\xa2\x65roots\x81" + link + b"\x67version\x01"
    assert data == bytes([len(head)]) + head + bytes([36 + 5]) + block.cid + b"hello"


def test_version_0_cids_are_written_and_read():
    block = Block.build(b"\x0a\x04\x08\x02\x18\x00", cids.DAG_PB, UNIXFS_V0_2015)
    assert len(block.cid) == 34
    assert read(v1([block.cid], [block])) == [block]


def test_identity_cids_are_not_written_but_read():
    inline = UNIXFS_V1_2025.with_options(inline=True)
    tiny = Block.build(b"tiny", cids.RAW, inline)
    assert v1([tiny.cid], [tiny]) == v1([tiny.cid])
    data = v1() + section(tiny.cid + b"tiny")
    assert read(data) == [tiny]


def test_duplicates_are_kept_in_place():
    blocks = [BLOCKS[3], BLOCKS[4], BLOCKS[3]]
    assert read(v1([], blocks)) == blocks


def test_empty_file_of_either_version_has_no_blocks():
    assert read(v1()) == read(v2()) == read(v2(index=False)) == []


def test_block_of_the_largest_size_passes_and_one_byte_more_does_not():
    data = bytes(BLOCK_SIZE_MAX_BYTES)
    block = raw_block(data)
    assert len(read(v1([], [block]))[0].data) == BLOCK_SIZE_MAX_BYTES
    cid = cids.make(1, cids.RAW, b"\x12\x20" + hashlib.sha256(data + b"\0").digest())
    with pytest.raises(BlockTooLarge):
        read(v1() + section(cid + data + b"\0"))


def test_v2_header_points_at_data_and_index():
    data = v2([BLOCKS[1].cid], BLOCKS)
    assert data.startswith(car.PRAGMA_V2)
    reader = CarReader(io.BytesIO(data).read)
    head = reader.header_v2
    assert head is not None
    inner = data[head.data_offset : head.data_offset + head.data_size]
    assert inner == v1([BLOCKS[1].cid], BLOCKS)
    assert head.characteristics[0] == 0x80
    assert data[head.index_offset :].startswith(b"\x81\x08")
    assert CarReader(io.BytesIO(v2(index=False)).read).header_v2 == (bytes(16), 51, 18, 0)


def test_v2_is_written_behind_what_the_target_holds_already():
    out = io.BytesIO()
    out.write(b"before")
    size = write_car_v2([], BLOCKS, out)
    assert out.getvalue()[6:] == v2([], BLOCKS) and len(out.getvalue()) == 6 + size


def test_padding_around_the_inner_file_is_passed_over():
    inner = v1([], BLOCKS)
    head = struct.pack("<16sQQQ", bytes(16), 51 + 600_000, len(inner), 0)
    data = car.PRAGMA_V2 + head + bytes(600_000) + inner + bytes(100)
    assert read(data) == BLOCKS


def test_v2_cut_short_while_it_was_written_is_refused():
    """The header is zeros until the file is complete."""

    def blocks():
        yield BLOCKS[1]
        raise KeyboardInterrupt

    out = io.BytesIO()
    with pytest.raises(KeyboardInterrupt):
        write_car_v2([], blocks(), out)
    with pytest.raises(MalformedCar, match="cut short while it was written"):
        read(out.getvalue())


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("cut", range(1, 60, 7))
@pytest.mark.parametrize("make", [v1, v2])
def test_file_that_ends_inside_a_section_is_truncated(make, cut):
    whole = make([], [raw_block(bytes(200))])
    head = CarReader(io.BytesIO(whole).read).header_v2
    end = head.index_offset if head else len(whole)
    with pytest.raises(TruncatedCar):
        read(whole[: end - cut])


def test_every_prefix_is_refused_or_gives_a_prefix_of_the_blocks():
    whole = v1([BLOCKS[1].cid], BLOCKS[:6])
    for cut in range(len(whole)):
        try:
            blocks = read(whole[:cut])
        except MalformedCar:
            continue
        assert blocks == BLOCKS[: len(blocks)]


def test_changed_byte_of_a_block_is_a_hash_mismatch():
    whole = bytearray(v1([], [raw_block(b"content")]))
    whole[-1] ^= 1
    with pytest.raises(HashMismatch):
        read(bytes(whole))


def test_blocks_before_a_damaged_one_are_handed_out():
    whole = v1([], BLOCKS[:3]) + section(BLOCKS[5].cid + b"other content")
    reader = iter(CarReader(io.BytesIO(whole).read))
    assert [next(reader) for _ in range(3)] == BLOCKS[:3]
    with pytest.raises(HashMismatch):
        next(reader)


@pytest.mark.parametrize(
    "size", [car.HEADER_SIZE_MAX_BYTES + 1, 1 << 32, (1 << 63) - 1], ids=["1M", "4G", "8E"]
)
def test_huge_header_is_refused_before_anything_is_allocated(size):
    data = varint.encode(size) + bytes(100)
    tracemalloc.start()
    with pytest.raises(MalformedCar, match="header of"):
        CarReader(io.BytesIO(data).read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("size", [car.SECTION_SIZE_MAX_BYTES + 1, 1 << 40])
def test_huge_section_is_refused_before_anything_is_allocated(size):
    with pytest.raises(MalformedCar, match="section of"):
        read(v1() + varint.encode(size))


def test_section_of_length_zero_is_refused():
    with pytest.raises(MalformedCar, match="length zero"):
        read(v1([], BLOCKS[:2]) + b"\0\0\0\0")


@pytest.mark.parametrize(
    "prefix", [b"\x80\x00", b"\xff\x00", b"\x80" * 9 + b"\x01", b"\xff" * 12], ids=bytes.hex
)
def test_length_that_is_no_shortest_varint_is_refused(prefix):
    with pytest.raises(MalformedCar, match="length of a section"):
        read(v1() + prefix + bytes(20))
    with pytest.raises(MalformedCar, match="length of a header"):
        read(prefix + bytes(20))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends"),
        (b"\x00", "header of 0"),
        (b"\x05PK\x03\x04\x00", "not dag-cbor"),
        (header([]), "version None"),
        (header({"version": 1}), "roots"),
        (header({"roots": [], "version": 3}), "version 3"),
        (header({"roots": [], "version": 2}), "version 2"),
        (header({"roots": [], "version": "1"}), "version '1'"),
        (header({"roots": [], "version": True}), "version True"),
        (header({"roots": [b"x"], "version": 1}), "roots"),
        (header({"roots": {}, "version": 1}), "roots"),
        (header({"roots": []}), "version None"),
    ],
)
def test_header_that_is_none_is_refused(data, why):
    with pytest.raises(MalformedCar, match=why):
        CarReader(io.BytesIO(data).read)


def test_section_without_a_cid_is_refused():
    with pytest.raises(InvalidCid):
        read(v1() + section(b"\x01\x55"))
    with pytest.raises(InvalidCid):
        read(v1() + section(b"\x12\x20" + bytes(10)))


def test_block_of_a_weak_hash_is_refused():
    with pytest.raises(UnsupportedHash):
        read(v1() + section(b"\x01\x55\xd5\x01\x10" + hashlib.md5(b"x").digest() + b"x"))


@pytest.mark.parametrize(
    ("offset", "size", "index", "why"),
    [
        (0, 18, 0, "cannot be"),
        (50, 18, 0, "cannot be"),
        (51, 0, 0, "cannot be"),
        ((1 << 64) - 1, 18, 0, "cannot be"),
        (51, (1 << 64) - 1, 0, "cannot be"),
        (51, 18, 60, "inside the data"),
        (51, 18, 1, "inside the data"),
        (52, 18, 0, "header"),
        (51, 17, 0, "past the end"),
        (51, 19, 0, "ends"),
        (1 << 40, 18, 0, "ends"),
    ],
)
def test_v2_offsets_that_point_elsewhere_are_refused(offset, size, index, why):
    inner = section(V1_HEADER)
    assert len(inner) == 18
    head = struct.pack("<16sQQQ", bytes(16), offset, size, index)
    with pytest.raises(MalformedCar, match=why):
        read(car.PRAGMA_V2 + head + inner)


def test_v2_inside_v2_is_refused():
    inner = v2([], BLOCKS[:1])
    head = struct.pack("<16sQQQ", bytes(16), 51, len(inner), 0)
    with pytest.raises(MalformedCar, match="version 2"):
        read(car.PRAGMA_V2 + head + inner)


def test_error_of_the_source_passes_through():
    def broken(size: int) -> bytes:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        CarReader(broken)


# -------------------------------------------------------------------------------- streaming


def test_reading_and_writing_hold_one_block_at_a_time():
    count, size = 200, 256 << 10
    produced = 0

    def blocks():
        nonlocal produced
        for index in range(count):
            produced += 1
            yield raw_block(index.to_bytes(4, "big") * (size // 4))

    class Pipe:
        """Takes what is written and gives it back, never more than a few pieces at a time."""

        def __init__(self) -> None:
            self.source = self.stream()
            self.rest = b""

        def stream(self):
            pieces: list[varint.BytesLike] = []
            consumed = blocks()
            head = v1()
            yield head
            for block in consumed:
                write_car([], [block], pieces.append)
                yield b"".join(map(bytes, pieces))[len(head) :]
                pieces.clear()

        def read(self, limit: int) -> bytes:
            if not self.rest:
                self.rest = next(self.source, b"")
            taken, self.rest = self.rest[:limit], self.rest[limit:]
            return taken

    tracemalloc.start()
    seen = 0
    for _block in CarReader(Pipe().read):
        seen += 1
        assert produced - seen <= 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == count
    assert peak < 12 * size


# ------------------------------------------------------------------------------------ index


@given(block_lists)
def test_index_leads_to_every_block(blocks):
    data = v2([], blocks)
    head = CarReader(io.BytesIO(data).read).header_v2
    assert head is not None
    entries = list(decode_index(data[head.index_offset :]))
    assert len(entries) == len(blocks)
    found = [
        car.read_indexed_block(lambda at, size: data[at : at + size], head.data_offset, entry)
        for entry in entries
    ]
    assert sorted((block.cid, bytes(block.data)) for block in found) == sorted(
        (block.cid, block.data) for block in blocks
    )


def test_index_has_the_bytes_of_the_specification():
    builder = IndexBuilder()
    late, early = b"\x12\x20" + b"\x02" * 32, b"\x12\x20" + b"\x01" * 32
    wide = b"\x13\x40" + b"\x03" * 64
    builder.add(late, 100)
    builder.add(wide, 300)
    builder.add(early, 200)
    assert b"".join(builder.encode()) == (
        b"\x81\x08"
        + struct.pack("<I", 2)
        + struct.pack("<QI", 0x12, 1)
        + struct.pack("<IQ", 40, 80)
        + (b"\x01" * 32 + struct.pack("<Q", 200))
        + (b"\x02" * 32 + struct.pack("<Q", 100))
        + struct.pack("<QI", 0x13, 1)
        + struct.pack("<IQ", 72, 72)
        + (b"\x03" * 64 + struct.pack("<Q", 300))
    )


def test_index_entry_that_lies_is_caught():
    data = v1([], BLOCKS)

    def read_at(at: int, size: int) -> bytes:
        return data[at : at + size]

    offset = 18
    assert (
        car.read_indexed_block(read_at, 0, IndexEntry(cids.multihash_of(BLOCKS[0].cid), offset))
        == BLOCKS[0]
    )
    other = IndexEntry(cids.multihash_of(BLOCKS[1].cid), offset)
    with pytest.raises(MalformedCar, match="names another"):
        car.read_indexed_block(read_at, 0, other)
    for wrong in (offset + 1, len(data), 1 << 50):
        with pytest.raises((MalformedCar, InvalidCid, UnsupportedHash)):
            car.read_indexed_block(read_at, 0, IndexEntry(cids.multihash_of(BLOCKS[0].cid), wrong))
    with pytest.raises(TruncatedCar):
        last = data.rindex(BLOCKS[-1].cid) - 1
        cut = data[:-1]
        car.read_indexed_block(
            lambda at, size: cut[at : at + size],
            0,
            IndexEntry(cids.multihash_of(BLOCKS[-1].cid), last),
        )


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (b"", MalformedCar),
        (b"\x80\x08\x00\x00\x00\x00", MalformedCar),
        (b"\x81\x08", TruncatedCar),
        (b"\x81\x08\x01\x00\x00\x00", TruncatedCar),
        (b"\x81\x08\xff\xff\xff\xff" + bytes(12), TruncatedCar),
        (b"\x81\x08\x00\x00\x00\x00\x00", MalformedCar),
        (b"\x81\x08" + struct.pack("<IQIIQ", 1, 0x12, 1, 40, 41) + bytes(41), MalformedCar),
        (b"\x81\x08" + struct.pack("<IQIIQ", 1, 0x12, 1, 7, 7) + bytes(7), MalformedCar),
        (b"\x81\x08" + struct.pack("<IQIIQ", 1, 0x12, 1, 0, 0), MalformedCar),
        (b"\x81\x08" + struct.pack("<IQIIQ", 1, 1 << 63, 1, 40, 40) + bytes(40), MalformedCar),
        (b"\x81\x08" + struct.pack("<IQIIQ", 1, 0x12, 1, 40, 40 << 50), TruncatedCar),
    ],
)
def test_index_that_does_not_add_up_is_refused(index, error):
    with pytest.raises(error):
        list(decode_index(index))


# ------------------------------------------------------------------------------------- fuzz


def test_mutated_files_raise_typed_errors_only():
    good = {block.cid for block in BLOCKS}
    corpus = [v1([BLOCKS[2].cid], BLOCKS), v2([BLOCKS[2].cid], BLOCKS[:5]), v2(index=False)]

    def parse(data: bytes) -> None:
        source = io.BytesIO(data)
        for block in CarReader(lambda size: source.read(min(size, 100))):
            assert block.cid in good or Block.verify(block.cid, block.data)

    assert fuzz(parse, corpus) > 100


def test_mutated_indexes_raise_typed_errors_only():
    builder = IndexBuilder()
    for position, block in enumerate(BLOCKS):
        builder.add(cids.multihash_of(block.cid), position)
    builder.add(cids.multihash_of(raw_block(b"x", "sha2-512").cid), 7)
    data = v1([], BLOCKS)

    def parse(index: bytes) -> None:
        for entry in decode_index(index):
            car.read_indexed_block(lambda at, size: data[at : at + size], 0, entry)

    fuzz(parse, [b"".join(builder.encode())])
