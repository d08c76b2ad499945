"""Segments with sectors that cannot be read: listed in the superblock, never given out again.

A retired one is out of the log for good. It is not wiped: a write to a failing place may fail the
sync of everybody's data. Format: docs/formats/blkdev.md, Superblock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import pack, unpack_from
from typing import TYPE_CHECKING, Any

from blkdev import format as fmt
from blkdev.catalog import Catalog

if TYPE_CHECKING:
    from blkdev.checkpoint import Checkpointer


def bad_slots(block: fmt.Row) -> dict[int, bool]:
    """Segments with sectors that cannot be read: slot -> whether it is retired, so that what it
    holds is no part of the log any more. None of them is ever given out again.
    """
    count = min(block.bad_count, fmt.BAD_SLOTS_MAX)
    entries = unpack_from(f"<{count}I", block.bad_slots)
    # Those that a resize cut off stay listed: it may grow again.
    return {entry & ~fmt.BAD_RETIRED: bool(entry & fmt.BAD_RETIRED) for entry in entries}


def with_bad_slots(block: fmt.Row, bad: Mapping[int, bool]) -> fmt.Row:
    """The superblock with this list, retired ones first where it does not hold all."""
    listed = sorted(bad, key=lambda slot: not bad[slot])[: fmt.BAD_SLOTS_MAX]
    entries = [slot | fmt.BAD_RETIRED * bad[slot] for slot in listed]
    changes: dict[str, Any] = {
        "bad_count": len(entries),
        "bad_slots": pack(f"<{len(entries)}I", *entries),
    }
    if any(bad.values()):
        changes["features_incompatible"] = block.features_incompatible | fmt.FEATURE_RETIRED
    return block._replace(**changes)


def retire(catalog: Catalog, checkpointer: Checkpointer, slots: Iterable[int]) -> set[int]:
    """Take those of these emptied segments that are listed out of use for good, durably; as many
    as the list has room for. No checkpoint may name them.
    """
    bad = catalog.bad_slots
    room = fmt.BAD_SLOTS_MAX - sum(bad.values())
    retired = set(sorted(slot for slot in slots if slot in bad)[:room])
    if retired:
        bad.update(dict.fromkeys(retired, True))
        checkpointer.update_superblock()
    return retired
