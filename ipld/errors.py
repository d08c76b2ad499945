"""Every error of the formats layer.

    IpldError
    ├── RequestError              your request: ask for something else
    │   ├── InvalidParameter      a profile, size, mode or option outside its limits
    │   ├── UnsupportedHash       a hash function or digest length outside the allow-list
    │   ├── UnsupportedCodec      a codec that this operation cannot read or write
    │   ├── PathNotFound          no such name below this node
    │   ├── NotADirectory         a path goes through something that has no names
    │   └── NotAFile              content was asked of something that has none
    └── DataError                 your data: what was read is not what it claims to be
        ├── InvalidCid            text or bytes that are no CID
        ├── HashMismatch          the block is not the one that its CID names
        ├── LimitExceeded
        │   ├── BlockTooLarge
        │   ├── IdentityTooLong
        │   ├── FanoutTooLarge
        │   ├── HashExhausted
        │   └── TooDeep
        ├── MalformedNode
        │   ├── MalformedDagPb
        │   ├── MalformedUnixfs
        │   ├── MalformedShard
        │   └── MalformedCbor
        └── MalformedCar
            └── TruncatedCar

Our bugs are not in the tree: they surface as AssertionError, TypeError and the like, and no caller
should catch them. Errors of a caller's `get` or `put` pass through this layer untouched.
"""

from __future__ import annotations


class IpldError(Exception):
    """Base of all errors that this layer raises itself."""


class RequestError(IpldError):
    """The caller asked for something that cannot be done; the data is fine."""


class InvalidParameter(RequestError):
    """A value outside its documented limits."""


class UnsupportedHash(RequestError):
    """A hash function or digest length that is not on the allow-list."""


class UnsupportedCodec(RequestError):
    """A codec that this operation does not read or write."""


class PathNotFound(RequestError):
    """A path segment names nothing."""


class NotADirectory(RequestError):
    """A path segment was asked of a node without names."""


class NotAFile(RequestError):
    """Content was asked of a directory or of another node without content."""


class DataError(IpldError):
    """What was read is damaged, hostile or of another format."""


class InvalidCid(DataError):
    """Not a CID: bad base, bad version, bad varint, or a digest of the wrong length."""


class HashMismatch(DataError):
    """The bytes of a block do not hash to its CID."""


class LimitExceeded(DataError):
    """Well-formed, but beyond what any node on the network accepts."""


class BlockTooLarge(LimitExceeded):
    """A block above 2 MiB."""


class IdentityTooLong(LimitExceeded):
    """An identity CID with more than 128 bytes of content."""


class FanoutTooLarge(LimitExceeded):
    """A HAMT shard with more than 1024 slots."""


class HashExhausted(LimitExceeded):
    """Names that collide in every bit of the HAMT's hash: no shard can hold both."""


class TooDeep(LimitExceeded):
    """A DAG deeper or with more nodes than the limit: a cycle of identities or a bomb."""


class MalformedNode(DataError):
    """A block that is not a valid node of its codec."""


class MalformedDagPb(MalformedNode):
    """Not strict dag-pb."""


class MalformedUnixfs(MalformedNode):
    """A dag-pb node whose Data is no valid UnixFS record, or does not fit its links."""


class MalformedShard(MalformedNode):
    """A HAMT shard whose bitmap, link names or fan-out contradict each other."""


class MalformedCbor(MalformedNode):
    """Not strict dag-cbor."""


class MalformedCar(DataError):
    """Not a CAR file, or one whose frames contradict each other."""


class TruncatedCar(MalformedCar):
    """A CAR file that ends inside a frame."""
