"""Every number that decides a CID, as one immutable value.

Two people who import the same bytes get the same CID exactly when their profiles are equal in all
fields below. Source of the two named profiles: IPIP-499; of the limits: what Kubo accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ipld import multihash
from ipld.errors import InvalidParameter

KIB = 1 << 10
MIB = 1 << 20
BLOCK_SIZE_MAX_BYTES = 2 * MIB
CHUNK_SIZE_MAX_BYTES = BLOCK_SIZE_MAX_BYTES - 256
HAMT_FANOUT_MIN = 8
HAMT_FANOUT_MAX = 1024
FILE_LINKS_MAX = 16_384
LAYOUTS = ("balanced", "trickle")
SIZE_ESTIMATIONS = ("links", "block", "disabled")


@dataclass(frozen=True)
class Profile:
    """How bytes become blocks. Built by `with_options`, so that every instance is valid."""

    name: str
    cid_version: int
    hash_function: str
    chunk_size_bytes: int
    raw_leaves: bool
    layout: str
    """balanced | trickle."""
    max_file_links: int
    max_directory_links: int
    """A directory with more entries becomes a HAMT, whatever its size; 0: no such limit."""
    hamt_fanout: int
    hamt_threshold_bytes: int
    """A directory whose estimated size is above this becomes a HAMT; 0: never by size."""
    hamt_size_estimation: str
    """links: name and CID lengths; block: exact size of the plain block; disabled: no estimate."""
    inline: bool
    inline_limit_bytes: int
    """Blocks up to this size become identity CIDs when `inline` is set."""

    def __post_init__(self) -> None:
        multihash.function_of(self.hash_function)
        if self.cid_version == 0 and self.hash_function != "sha2-256":
            raise InvalidParameter("CID version 0 allows sha2-256 only (use --cid-version 1)")
        _check_number("cid-version", self.cid_version, 0, 1)
        _check_number("chunk size", self.chunk_size_bytes, 1, CHUNK_SIZE_MAX_BYTES)
        _check_number("max-file-links", self.max_file_links, 2, FILE_LINKS_MAX)
        _check_number("max-directory-links", self.max_directory_links, 0, 1 << 31)
        _check_number("max-hamt-fanout", self.hamt_fanout, HAMT_FANOUT_MIN, HAMT_FANOUT_MAX)
        _check_number("hamt-threshold", self.hamt_threshold_bytes, 0, 1 << 62)
        inline_max = multihash.IDENTITY_SIZE_MAX_BYTES
        _check_number("inline-limit", self.inline_limit_bytes, 0, inline_max)
        _check_choice("layout", self.layout, LAYOUTS)
        _check_choice("hamt-size-estimation", self.hamt_size_estimation, SIZE_ESTIMATIONS)
        if self.hamt_fanout & (self.hamt_fanout - 1):
            raise InvalidParameter(f"max-hamt-fanout {self.hamt_fanout} is not a power of two")
        if self.hash_function == "identity":
            raise InvalidParameter("identity cannot be the hash function (use --inline)")

    def with_options(self, **options: Any) -> Profile:
        """A copy with some fields replaced. Raises InvalidParameter, UnsupportedHash."""
        unknown = options.keys() - _FIELD_TYPES.keys()
        if unknown:
            raise InvalidParameter(f"profiles have no {', '.join(sorted(unknown))}")
        for name, value in options.items():
            if type(value).__name__ != _FIELD_TYPES[name]:
                raise InvalidParameter(f"{name} must be of type {_FIELD_TYPES[name]}")
        return replace(self, **options)

    def to_record(self) -> dict[str, Any]:
        """The profile as a plain map that dag-cbor can hold; refs keep it beside their root."""
        return asdict(self)

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Profile:
        """Inverse of `to_record`; fields that a record lacks take today's default."""
        return UNIXFS_V1_2025.with_options(**record)


_FIELD_TYPES = {field.name: str(field.type) for field in fields(Profile)}


def _check_number(name: str, value: int, smallest: int, largest: int) -> None:
    if not smallest <= value <= largest:
        raise InvalidParameter(f"{name} {value} is out of range ({smallest} to {largest})")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidParameter(f"{name} {value!r} is unknown (use {', '.join(choices)})")


UNIXFS_V0_2015 = Profile(
    name="unixfs-v0-2015",
    cid_version=0,
    hash_function="sha2-256",
    chunk_size_bytes=256 * KIB,
    raw_leaves=False,
    layout="balanced",
    max_file_links=174,
    max_directory_links=0,
    hamt_fanout=256,
    hamt_threshold_bytes=256 * KIB,
    hamt_size_estimation="links",
    inline=False,
    inline_limit_bytes=32,
)
UNIXFS_V1_2025 = replace(
    UNIXFS_V0_2015,
    name="unixfs-v1-2025",
    cid_version=1,
    chunk_size_bytes=MIB,
    raw_leaves=True,
    max_file_links=1024,
    hamt_size_estimation="block",
)
_BY_NAME = {profile.name: profile for profile in (UNIXFS_V1_2025, UNIXFS_V0_2015)}
_BY_NAME["legacy-cid-v0"] = UNIXFS_V0_2015


def by_name(name: str) -> Profile:
    """A named profile. Raises InvalidParameter."""
    profile = _BY_NAME.get(name)
    if profile is None:
        raise InvalidParameter(f"profile {name!r} is unknown (use {', '.join(_BY_NAME)})")
    return profile
