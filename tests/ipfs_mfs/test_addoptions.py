"""Flags of `add` to import parameters, by Kubo's rules."""

import os

import pytest

from ipfs_mfs.addoptions import AddOptions, profile_of
from ipfs_mfs.errors import BadOption
from ipld.errors import InvalidParameter, UnsupportedHash
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Attributes

V0, V1 = "unixfs-v0-2015", "unixfs-v1-2025"


def status(mode: int, time_ns: int = 0) -> os.stat_result:
    return os.stat_result((mode, *range(9)), {"st_mtime_ns": time_ns})


def test_without_flags_the_profile_is_the_default():
    assert profile_of(AddOptions()) == UNIXFS_V1_2025
    assert profile_of(AddOptions(profile=V0)) == UNIXFS_V0_2015


def test_version_1_alone_is_the_third_set_of_parameters():
    assert profile_of(AddOptions(cid_version=1)) == UNIXFS_V0_2015.with_options(
        cid_version=1, raw_leaves=True
    )


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ({"cid_version": 0}, {}),
        ({"raw_leaves": True}, {"raw_leaves": True}),
        ({"cid_version": 1, "raw_leaves": False}, {"cid_version": 1}),
        ({"hash_function": "sha2-256"}, {}),
        (
            {"hash_function": "BLAKE3"},
            {"hash_function": "blake3", "cid_version": 1, "raw_leaves": True},
        ),
        ({"chunker": "size-99"}, {"chunk_size_bytes": 99}),
        ({"trickle": True}, {"layout": "trickle"}),
        ({"trickle": False}, {}),
        ({"inline": True, "inline_limit_bytes": 9}, {"inline": True, "inline_limit_bytes": 9}),
        ({"max_file_links": 9}, {"max_file_links": 9}),
        ({"max_directory_links": 9}, {"max_directory_links": 9}),
        ({"max_hamt_fanout": 16}, {"hamt_fanout": 16}),
    ],
    ids=str,
)
def test_a_flag_of_kubo_alone_changes_kubos_implicit_parameters(flags, fields):
    assert profile_of(AddOptions(**flags)) == UNIXFS_V0_2015.with_options(**fields)


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ({"hamt_threshold_bytes": 5}, {"hamt_threshold_bytes": 5}),
        ({"hamt_size_estimation": "disabled"}, {"hamt_size_estimation": "disabled"}),
        ({"preserve_mode": True}, {"raw_leaves": False}),
        ({"mode": 0o644}, {"raw_leaves": False}),
        ({"mtime_s": 1}, {"raw_leaves": False}),
        ({"mode": 0, "mtime_s": 0}, {}),
        ({"wrap": True, "hidden": True, "recursive": True}, {}),
    ],
    ids=str,
)
def test_other_flags_change_the_default_profile(flags, fields):
    assert profile_of(AddOptions(**flags)) == UNIXFS_V1_2025.with_options(**fields)


def test_flags_change_a_named_profile():
    changed = profile_of(AddOptions(profile=V1, chunker="size-7", trickle=True))
    assert changed == UNIXFS_V1_2025.with_options(chunk_size_bytes=7, layout="trickle")
    assert profile_of(AddOptions(profile=V0, cid_version=1)).raw_leaves
    assert not profile_of(AddOptions(profile=V1, cid_version=0)).raw_leaves
    assert profile_of(AddOptions(profile=V1, cid_version=0, raw_leaves=True)).raw_leaves


@pytest.mark.parametrize(
    "flags",
    [
        {"preserve_mode": True, "raw_leaves": True},
        {"mode": 0o644, "raw_leaves": True},
        {"mtime_ns": 5},
        {"mtime_s": 5, "mtime_ns": 10**9},
        {"mtime_s": 5, "mtime_ns": -1},
    ],
    ids=str,
)
def test_contradictory_flags_are_refused(flags):
    with pytest.raises(BadOption):
        profile_of(AddOptions(**flags))


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"profile": "unknown"}, InvalidParameter),
        ({"cid_version": 2}, InvalidParameter),
        ({"cid_version": 0, "hash_function": "blake3"}, InvalidParameter),
        ({"chunker": "buzhash"}, InvalidParameter),
        ({"inline_limit_bytes": 129}, InvalidParameter),
        ({"max_hamt_fanout": 9}, InvalidParameter),
        ({"hash_function": "md5"}, UnsupportedHash),
    ],
    ids=str,
)
def test_values_outside_their_limits_are_refused(flags, error):
    with pytest.raises(error):
        profile_of(AddOptions(**flags))


class TestAttributes:
    regular, link = status(0o104755, 3_000_000_007), status(0o120777, -1)

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            ({}, None),
            ({"preserve_mode": True}, Attributes(0o4755, None)),
            ({"preserve_mtime": True}, Attributes(None, (3, 7))),
            ({"mode": 0o4640, "preserve_mode": True}, Attributes(0o640, None)),
            ({"mtime_s": -9, "mtime_ns": 5, "preserve_mtime": True}, Attributes(None, (-9, 5))),
        ],
        ids=str,
    )
    def test_of_a_file(self, flags, expected):
        assert AddOptions(**flags).attributes(self.regular) == expected

    def test_a_symlink_has_a_time_only(self):
        options = AddOptions(preserve_mode=True, preserve_mtime=True)
        assert options.attributes(self.link) == Attributes(None, (-1, 999_999_999))

    def test_nothing_is_preserved_where_there_is_nothing(self):
        assert AddOptions(preserve_mode=True, preserve_mtime=True).attributes(None) is None
        assert AddOptions(mode=0o600).attributes(None) == Attributes(0o600, None)
