"""CIDs as bytes: a bare sha2-256 multihash (version 0) or `varint(1) varint(codec) multihash`.

Inside the program a CID is `bytes`, because a dict key of 36 bytes costs nothing and an object per
block does. Text is for the edges: version 0 in base58btc, version 1 in base32. Everything that
returns a CID here returns a valid one: strict varints, an allowed hash, no bytes left over.
"""

from __future__ import annotations

from typing import NamedTuple

import libipld

from ipld import multihash, varint
from ipld.errors import InvalidCid, InvalidParameter
from ipld.varint import BytesLike

RAW = 0x55
DAG_PB = 0x70
DAG_CBOR = 0x71
LIBP2P_KEY = 0x72
DAG_JSON = 0x0129

_V0_PREFIX = b"\x12\x20"
_V0_SIZE_BYTES = 34
_V1_SIZE_BYTES = 36
# Version 1 with a codec of one byte and sha2-256: recognised by four bytes, no varint to read.
_COMMON_PREFIXES = {bytes((1, codec, 0x12, 0x20)): codec for codec in (RAW, DAG_PB, DAG_CBOR)}
# Longer text than any CID we accept (a 128-byte identity in base 2): refused before it is decoded.
_TEXT_SIZE_MAX_BYTES = 2048


class CidParts(NamedTuple):
    """A CID taken apart; for version 0 the codec is always dag-pb."""

    version: int
    codec: int
    multihash: bytes


def decode(cid: BytesLike) -> CidParts:
    """Take a binary CID apart. Raises InvalidCid, UnsupportedHash, IdentityTooLong."""
    version, codec, start, end = _span(cid, 0)
    if end != len(cid):
        raise InvalidCid("bytes after the end of a CID")
    return CidParts(version, codec, bytes(cid[start:]))


def make(version: int, codec: int, multihash_: bytes) -> bytes:
    """The binary CID of these parts; the multihash is trusted to be well-formed."""
    if version == 1:
        return b"\x01" + varint.encode(codec) + multihash_
    if version != 0:
        raise InvalidParameter(f"CID version {version} (use 0 or 1)")
    if codec != DAG_PB or len(multihash_) != _V0_SIZE_BYTES or multihash_[:2] != _V0_PREFIX:
        raise InvalidParameter("CID version 0 is for dag-pb and sha2-256 only (use version 1)")
    return multihash_


def multihash_of(cid: bytes) -> bytes:
    """The part that names the bytes, whatever version and codec name it."""
    size = len(cid)
    if size == _V1_SIZE_BYTES and cid[:4] in _COMMON_PREFIXES:
        return cid[2:]
    if size == _V0_SIZE_BYTES and cid[:2] == _V0_PREFIX:
        return cid
    return decode(cid).multihash


def codec_of(cid: bytes) -> int:
    """RAW, DAG_PB, …"""
    size = len(cid)
    if size == _V1_SIZE_BYTES:
        codec = _COMMON_PREFIXES.get(cid[:4])
        if codec is not None:
            return codec
    if size == _V0_SIZE_BYTES and cid[:2] == _V0_PREFIX:
        return DAG_PB
    return decode(cid).codec


def to_v1(cid: bytes) -> bytes:
    """The same content under version 1."""
    return make(1, codec_of(cid), multihash_of(cid))


def is_identity(cid: bytes) -> bool:
    """Whether the CID carries its content itself."""
    return len(cid) > 2 and multihash_of(cid)[0] == multihash.IDENTITY


def identity_data(cid: bytes) -> bytes:
    """The content of an identity CID."""
    code, data = multihash.split(multihash_of(cid))
    if code != multihash.IDENTITY:
        raise InvalidParameter("not an identity CID")
    return data


def read_prefix(buffer: BytesLike, offset: int) -> tuple[bytes, int]:
    """The CID at `offset` in a larger buffer (a CAR frame) and the offset after it."""
    end = _span(buffer, offset)[3]
    return bytes(buffer[offset:end]), end


def to_text(cid: bytes) -> str:
    """Canonical text of a valid binary CID."""
    if len(cid) == _V0_SIZE_BYTES and cid[:2] == _V0_PREFIX:
        return libipld.encode_multibase("z", cid)[1:]
    return libipld.encode_multibase("b", cid)


def parse(text: str) -> bytes:
    """A CID as people write it, in any multibase. Strict: InvalidCid for anything else."""
    if len(text) > _TEXT_SIZE_MAX_BYTES:
        raise InvalidCid(f"{len(text)} characters are no CID")
    version_0 = len(text) == 46 and text.startswith("Qm")
    try:
        cid = libipld.decode_multibase("z" + text if version_0 else text)[1]
    except ValueError:
        cid = _decode_rare_base(text)
    if len(cid) == _V1_SIZE_BYTES and cid[:4] in _COMMON_PREFIXES:
        return cid
    if len(cid) == _V0_SIZE_BYTES and cid[:2] == _V0_PREFIX:
        if not version_0:
            raise InvalidCid(f"{text!r}: a version 0 CID has no multibase prefix")
        return cid
    decode(cid)
    return cid


def _decode_rare_base(text: str) -> bytes:
    """Bases that libipld lacks; the import costs 50 ms and the call 100 us, so it comes last."""
    from multiformats import multibase

    try:
        return multibase.decode(text)
    except (ValueError, KeyError, TypeError):
        raise InvalidCid(f"{text[:80]!r} is not a CID") from None


def _span(buffer: BytesLike, offset: int) -> tuple[int, int, int, int]:
    """Version, codec, start of the multihash and end of the CID at `offset`."""
    codec = _COMMON_PREFIXES.get(bytes(buffer[offset : offset + 4]))
    if codec is not None and offset + _V1_SIZE_BYTES <= len(buffer):
        return 1, codec, offset + 2, offset + _V1_SIZE_BYTES
    if buffer[offset : offset + 2] == _V0_PREFIX:
        if offset + _V0_SIZE_BYTES > len(buffer):
            raise InvalidCid("CID is cut short")
        return 0, DAG_PB, offset, offset + _V0_SIZE_BYTES
    try:
        version, start = varint.read(buffer, offset)
        codec, start = varint.read(buffer, start)
    except ValueError as error:
        raise InvalidCid(f"CID: {error}") from None
    if version != 1:
        raise InvalidCid(f"CID version {version} is unknown")
    return 1, codec, start, multihash.span(buffer, start)[2]
