"""Profiles: the published numbers, and no others by accident."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import chunk, dagcbor
from ipld.errors import InvalidParameter, UnsupportedHash
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, Profile, by_name

options = st.fixed_dictionaries(
    {},
    optional={
        "chunk_size_bytes": st.integers(1, 2 * 2**20 - 256),
        "raw_leaves": st.booleans(),
        "layout": st.sampled_from(("balanced", "trickle")),
        "max_file_links": st.integers(2, 16_384),
        "max_directory_links": st.integers(0, 2**31),
        "hamt_fanout": st.sampled_from((8, 16, 32, 64, 128, 256, 512, 1024)),
        "hamt_threshold_bytes": st.integers(0, 2**40),
        "hamt_size_estimation": st.sampled_from(("links", "block", "disabled")),
        "inline": st.booleans(),
        "inline_limit_bytes": st.integers(0, 128),
        "hash_function": st.sampled_from(("sha2-256", "blake3", "blake2b-256")),
    },
)


def test_the_numbers_of_ipip_499():
    for profile, numbers in (
        (UNIXFS_V0_2015, (0, 262_144, False, 174, "links")),
        (UNIXFS_V1_2025, (1, 1_048_576, True, 1024, "block")),
    ):
        assert numbers == (
            profile.cid_version,
            profile.chunk_size_bytes,
            profile.raw_leaves,
            profile.max_file_links,
            profile.hamt_size_estimation,
        )
        assert (profile.hamt_fanout, profile.hamt_threshold_bytes) == (256, 262_144)
        assert (profile.layout, profile.hash_function) == ("balanced", "sha2-256")
        assert (profile.max_directory_links, profile.inline) == (0, False)


def test_names():
    assert by_name("unixfs-v1-2025") is UNIXFS_V1_2025
    assert by_name("unixfs-v0-2015") is by_name("legacy-cid-v0") is UNIXFS_V0_2015
    with pytest.raises(InvalidParameter, match="unixfs-v1-2025"):
        by_name("unixfs-v2")


@given(options)
def test_a_record_gives_the_profile_back(changed):
    profile = UNIXFS_V1_2025.with_options(**changed)
    record = dagcbor.decode(dagcbor.encode(profile.to_record()))
    assert Profile.from_record(record) == profile


def test_a_record_of_an_older_version_takes_todays_defaults():
    assert Profile.from_record({"cid_version": 1}) == UNIXFS_V1_2025


@pytest.mark.parametrize(
    "record",
    [{"colour": "red"}, {"cid_version": "1"}, {"raw_leaves": 1}, {"max_file_links": True}],
    ids=str,
)
def test_a_record_with_foreign_fields_or_types_is_refused(record):
    with pytest.raises(InvalidParameter):
        Profile.from_record(record)


@pytest.mark.parametrize(
    "changed",
    [
        {"cid_version": 2},
        {"cid_version": -1},
        {"chunk_size_bytes": 0},
        {"chunk_size_bytes": 2 * 2**20 - 255},
        {"max_file_links": 1},
        {"max_directory_links": -1},
        {"hamt_fanout": 4},
        {"hamt_fanout": 2048},
        {"hamt_fanout": 100},
        {"hamt_threshold_bytes": -1},
        {"hamt_size_estimation": "guess"},
        {"layout": "flat"},
        {"inline_limit_bytes": 129},
        {"hash_function": "identity"},
        {"hash_function": "blake3", "cid_version": 0},
    ],
    ids=str,
)
def test_values_outside_their_limits_are_refused(changed):
    with pytest.raises(InvalidParameter):
        UNIXFS_V1_2025.with_options(**changed)


def test_a_hash_outside_the_allow_list_is_refused():
    with pytest.raises(UnsupportedHash):
        UNIXFS_V1_2025.with_options(hash_function="md5")


class TestChunks:
    @given(st.binary(max_size=60), st.integers(1, 9))
    def test_pieces_are_full_but_the_last_and_make_the_whole(self, data, size):
        pieces = [bytes(piece) for piece in chunk.split(data, size)]
        assert b"".join(pieces) == data
        assert len(pieces) == chunk.leaf_count(len(data), size)
        assert all(len(piece) == size for piece in pieces[:-1])
        assert pieces[-1] or not data

    def test_pieces_are_views(self):
        data = bytearray(b"abcd")
        pieces = list(chunk.split(data, 2))
        data[0] = ord("x")
        assert bytes(pieces[0]) == b"xb"

    def test_the_name_of_a_chunker_gives_its_size(self):
        assert chunk.parse("size-4") == 4
        assert chunk.parse("size-2096896") == 2_096_896
        assert chunk.parse("default") == 262_144

    @pytest.mark.parametrize(
        "text",
        [
            "", "size-", "size-0", "size--1", "size-2096897", "size-1.5", "size-\u0664", "size-1 ",
            "size-9" + "9" * 5000, "4", "buzhash", "rabin-1-2-3",
        ],
    )  # fmt: skip
    def test_other_chunkers_are_refused(self, text):
        with pytest.raises(InvalidParameter):
            chunk.parse(text)
