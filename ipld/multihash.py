"""Multihashes: `varint(function) varint(length) digest`, and the functions that are allowed.

The allow-list and the lengths are those that the public network accepts: a weak or unknown function
is refused on write and on read. A digest may be a prefix of the function's full one, but never
shorter than 20 bytes; identity carries the content itself, at most 128 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ipld import varint
from ipld.errors import IdentityTooLong, InvalidCid, InvalidParameter, UnsupportedHash
from ipld.varint import BytesLike

IDENTITY = 0x00
SHA2_256 = 0x12
IDENTITY_SIZE_MAX_BYTES = 128
DIGEST_SIZE_MIN_BYTES = 20
DIGEST_SIZE_MAX_BYTES = 128
_BLAKE2B_8 = 0xB201
_BLAKE2S_8 = 0xB241
_SHA2_256_PREFIX = b"\x12\x20"


class Function(NamedTuple):
    """A hash function: `digest(data, size_bytes)` gives the first `size_bytes` of its output."""

    name: str
    code: int
    size_bytes: int
    """Length of the digest when none is asked for."""
    size_max_bytes: int
    digest: Callable[[BytesLike, int], bytes]


def _plain(name: str, code: int, algorithm: str, size_bytes: int) -> Function:
    def digest(data: BytesLike, size: int) -> bytes:
        return hashlib.new(algorithm, data, usedforsecurity=False).digest()[:size]

    return Function(name, code, size_bytes, size_bytes, digest)


def _sha2_256(data: BytesLike, size: int) -> bytes:
    return hashlib.sha256(data).digest()[:size]


def _double_sha2_256(data: BytesLike, size: int) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()[:size]


def _shake_256(data: BytesLike, size: int) -> bytes:
    return hashlib.shake_256(data).digest(size)


def _blake3(data: BytesLike, size: int) -> bytes:
    import blake3

    return blake3.blake3(data).digest(length=size)


def _keccak(name: str, code: int, size_bytes: int) -> Function:
    def digest(data: BytesLike, size: int) -> bytes:
        from ipld import keccak

        return keccak.digest(data, size_bytes)[:size]

    return Function(name, code, size_bytes, size_bytes, digest)


# A blake2 digest of n bytes is a function of its own: n enters the hash, so it is never a prefix.
def _blake2(kind: str, first_code: int, size_bytes: int) -> Function:
    def digest(data: BytesLike, size: int) -> bytes:
        return blake2(data, digest_size=size_bytes).digest()[:size]

    blake2 = hashlib.blake2b if kind == "blake2b" else hashlib.blake2s
    name, code = f"{kind}-{size_bytes * 8}", first_code + size_bytes - 1
    return Function(name, code, size_bytes, size_bytes, digest)


def _identity(data: BytesLike, size: int) -> bytes:
    return bytes(data[:size])


FUNCTIONS: tuple[Function, ...] = (
    Function("identity", IDENTITY, 0, IDENTITY_SIZE_MAX_BYTES, _identity),
    _plain("sha1", 0x11, "sha1", 20),
    Function("sha2-256", SHA2_256, 32, 32, _sha2_256),
    _plain("sha2-512", 0x13, "sha512", 64),
    _plain("sha3-512", 0x14, "sha3_512", 64),
    _plain("sha3-384", 0x15, "sha3_384", 48),
    _plain("sha3-256", 0x16, "sha3_256", 32),
    _plain("sha3-224", 0x17, "sha3_224", 28),
    Function("shake-256", 0x19, 64, 64, _shake_256),
    _keccak("keccak-224", 0x1A, 28),
    _keccak("keccak-256", 0x1B, 32),
    _keccak("keccak-384", 0x1C, 48),
    _keccak("keccak-512", 0x1D, 64),
    Function("blake3", 0x1E, 32, DIGEST_SIZE_MAX_BYTES, _blake3),
    Function("dbl-sha2-256", 0x56, 32, 32, _double_sha2_256),
    *(_blake2("blake2b", _BLAKE2B_8, size) for size in range(DIGEST_SIZE_MIN_BYTES, 65)),
    *(_blake2("blake2s", _BLAKE2S_8, size) for size in range(DIGEST_SIZE_MIN_BYTES, 33)),
)
_TABLE: dict[str | int, Function] = {}
for _function in FUNCTIONS:
    _TABLE[_function.code] = _TABLE[_function.name] = _function
_TABLE["sha3"] = _TABLE["sha3-512"]


def function_of(name_or_code: str | int) -> Function:
    """The function with this name (as `--hash` takes it) or code. Raises UnsupportedHash."""
    function = _TABLE.get(name_or_code)
    if function is None:
        shown = name_or_code if isinstance(name_or_code, str) else hex(name_or_code)
        raise UnsupportedHash(f"hash function {shown} is not allowed (use sha2-256)")
    return function


def digest_multihash(function: str | int, data: BytesLike, size_bytes: int | None = None) -> bytes:
    """The multihash of `data`; `size_bytes` cuts (or, for blake3, stretches) the digest.

    `data` must be C-contiguous and is not copied. Hashing releases the interpreter lock.
    Raises UnsupportedHash, IdentityTooLong.
    """
    if size_bytes is None and (function == "sha2-256" or function == SHA2_256):
        return _SHA2_256_PREFIX + hashlib.sha256(data).digest()
    chosen = function_of(function)
    if chosen.code == IDENTITY:
        size = len(data)
        if size_bytes not in (None, size):
            raise InvalidParameter("an identity multihash cannot be cut")
        if size > IDENTITY_SIZE_MAX_BYTES:
            raise IdentityTooLong(f"identity of {size} bytes (limit {IDENTITY_SIZE_MAX_BYTES})")
    else:
        size = chosen.size_bytes if size_bytes is None else size_bytes
        _check_size(chosen, size)
    return prefix(chosen.code, size) + chosen.digest(data, size)


def verify(multihash: bytes, data: BytesLike) -> bool:
    """Whether `data` has this multihash. Raises InvalidCid, UnsupportedHash."""
    if len(multihash) == 34 and multihash.startswith(_SHA2_256_PREFIX):
        return hashlib.sha256(data).digest() == multihash[2:]
    code, digest = split(multihash)
    if code == IDENTITY:
        return digest == data
    return _TABLE[code].digest(data, len(digest)) == digest


def split(multihash: BytesLike) -> tuple[int, bytes]:
    """Function code and digest. Strict: allowed function and length, nothing left over."""
    code, start, end = span(multihash, 0)
    if end != len(multihash):
        raise InvalidCid("bytes after the digest of a multihash")
    return code, bytes(multihash[start:end])


def span(buffer: BytesLike, offset: int) -> tuple[int, int, int]:
    """Function code, start and end of the digest of the multihash at `offset`."""
    try:
        code, offset = varint.read(buffer, offset)
        size, offset = varint.read(buffer, offset)
    except ValueError as error:
        raise InvalidCid(f"multihash: {error}") from None
    _check_size(function_of(code), size)
    if offset + size > len(buffer):
        raise InvalidCid("multihash is cut short")
    return code, offset, offset + size


@lru_cache(maxsize=256)
def prefix(code: int, size_bytes: int) -> bytes:
    """What stands before the digest."""
    return varint.encode(code) + varint.encode(size_bytes)


def _check_size(function: Function, size_bytes: int) -> None:
    if function.code == IDENTITY:
        if size_bytes > IDENTITY_SIZE_MAX_BYTES:
            raise IdentityTooLong(
                f"identity of {size_bytes} bytes (limit {IDENTITY_SIZE_MAX_BYTES})"
            )
        return
    if not DIGEST_SIZE_MIN_BYTES <= size_bytes <= function.size_max_bytes:
        raise UnsupportedHash(
            f"{function.name} digest of {size_bytes} bytes "
            f"(allowed {DIGEST_SIZE_MIN_BYTES} to {function.size_max_bytes})"
        )
