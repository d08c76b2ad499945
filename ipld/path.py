"""Paths: from a root CID through names to what they name.

One segment is one name in a directory (plain or HAMT), a key of a dag-cbor map, or a decimal index
of a dag-cbor list. Symlinks are not followed: that is the file system's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ipld import cid as cids
from ipld import dagcbor, dirdag
from ipld.errors import NotADirectory, PathNotFound
from ipld.nodes import Entry, Get, load


class Resolved(NamedTuple):
    """Where a path ends."""

    cid: bytes
    """The block named by the path, or the one inside which it ends."""
    entry: Entry | None
    """The directory entry of the last segment, when that was a name in a directory."""
    inside: tuple[bytes, ...]
    """Segments from the top of a dag-cbor block to the value; () when a whole block is named."""
    value: Any
    """That value; None when a whole block is named."""


def resolve(root_cid: bytes, segments: Sequence[bytes], get: Get) -> Resolved:
    """Follow `segments` from a root; the blocks asked of `get` are those of the path.

    Raises PathNotFound for a missing name and NotADirectory for a name below something without
    names; both say how far the path led.
    """
    here = Resolved(root_cid, None, (), None)
    for position, name in enumerate(segments):
        if here.inside:
            here = _step_inside(here, name, segments[:position])
        elif cids.codec_of(here.cid) == cids.DAG_CBOR:
            block = here._replace(entry=None, value=dagcbor.decode(load(here.cid, get)))
            here = _step_inside(block, name, segments[:position])
        else:
            here = _step_directory(here, name, segments[:position], get)
    return here


def _step_directory(here: Resolved, name: bytes, walked: Sequence[bytes], get: Get) -> Resolved:
    if cids.codec_of(here.cid) != cids.DAG_PB:
        raise NotADirectory(f"{_where(walked)} has no names below it")
    try:
        entry = dirdag.lookup(here.cid, name, get)
    except NotADirectory:
        raise NotADirectory(f"{_where(walked)} is not a directory") from None
    if entry is None:
        raise PathNotFound(f"no {_where((name,))} in {_where(walked)}")
    return Resolved(entry.cid, entry, (), None)


def _step_inside(here: Resolved, name: bytes, walked: Sequence[bytes]) -> Resolved:
    """One step in the values of a dag-cbor block; a link leads out of it."""
    container, key = here.value, name.decode(errors="surrogateescape")
    if isinstance(container, dict):
        if key not in container:
            raise PathNotFound(f"no {_where((name,))} in {_where(walked)}")
        value = container[key]
    elif isinstance(container, list):
        # Shorter than any index that could overflow, and without signs, spaces and leading zeros.
        if len(key) > 10 or not key.isdecimal() or key != str(index := int(key)):
            raise PathNotFound(f"{_where(walked)} is a list, {_where((name,))} is no index")
        if index >= len(container):
            raise PathNotFound(f"no item {key} in {_where(walked)}")
        value = container[index]
    else:
        raise NotADirectory(f"{_where(walked)} has no names below it")
    if isinstance(value, dagcbor.Link):
        return Resolved(value.cid, None, (), None)
    return Resolved(here.cid, None, (*here.inside, name), value)


def _where(segments: Sequence[bytes]) -> str:
    return b"/".join(segments).decode(errors="backslashreplace") or "the root"
