"""Defects planted in the engine on purpose: a proof that does not see them is worth nothing.

Each defect takes away one thing that the format or the code does against power cuts, rot or failing
disks. The same lives that turn red with it are green without it, so it is the defect that is seen.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import pytest

from blkdev import checkpoint as checkpoint_module
from blkdev import format as fmt
from blkdev import segment, superblock
from blkdev.checkpoint import Checkpointer
from blkdev.compaction.compact import Compactor
from blkdev.errors import StoreError
from blkdev.log import Log
from blkdev.recovery import past_damage, recover
from blkdev.recovery.recover import _Replay
from blkdev.store import Store
from tests.blkdev import test_durability, test_space
from tests.crash.enumeration import SEED, Explorer, Run, contents
from tests.crash.workload import (
    SIZE_BYTES,
    Operation,
    checkpoint,
    commit,
    compact,
    delete,
    delete_new,
    delete_old,
    journal,
    perform,
    prepared,
    put,
    put_large,
    put_pair,
    put_small,
    reopen,
    set_names,
    write_out,
)

pytestmark = pytest.mark.slow

Patch = pytest.MonkeyPatch
ALL_PAIRS = tuple(itertools.product((put_small, put_large, journal, commit, write_out), repeat=2))


@dataclass(frozen=True)
class Defect:
    """How to plant it, and in which lives a cut shows it; `again`: in those that follow a cut."""

    plant: Callable[[Patch], None]
    lives: tuple[tuple[Operation, ...], ...] = ALL_PAIRS
    again: tuple[tuple[Operation, ...], ...] = ()
    torn: int = 24


def explore(past, defect: Defect, torn: int) -> None:
    """Cut the defect's lives; raises what the oracle says."""
    explorer = Explorer(SIZE_BYTES, SEED, again=1.0 if defect.again else 0.0, torn=torn)
    for operations in defect.lives:
        run = Run(SIZE_BYTES, *past)
        perform(run, operations)
        explorer.explore(run)
    survivors = explorer.survivors[:120]
    explorer.again = 0.0
    for (image, state), operations in itertools.product(survivors, defect.again):
        run = Run(SIZE_BYTES, image, state)
        perform(run, operations)
        explorer.explore(run)


# -------------------------------------------------------------------------------- writing


def commit_without_flush(patch: Patch) -> None:
    patch.setattr(Log, "guarded", lambda self, write: None if "sync" in str(write) else write())


def segment_wiped_before_its_copies_are_durable(patch: Patch) -> None:
    # Dropping the checkpoint happens to sync, which would hide the defect.
    patch.setattr(Checkpointer, "drop", lambda self: None)
    patch.setattr(Log, "commit", Log.write_out)


def superblock_copies_written_without_a_sync_in_between(patch: Patch) -> None:
    def at_once(device, block):
        block = block._replace(generation=block.generation + 1)
        for copy, offset in enumerate(superblock.Geometry.of(block).copy_offsets):
            device.write(offset, [fmt.SUPERBLOCK.seal(block._replace(copy=copy))])
        device.sync()
        return block

    patch.setattr(superblock, "store", at_once)


def tombstones_dropped_while_what_they_bury_is_there(patch: Patch) -> None:
    patch.setattr(Compactor, "_needed_tombstones", lambda self, victim, value: b"")


def name_written_before_the_blocks_it_needs(patch: Patch) -> None:
    """Blocks wait in memory until the next name or commit, and then come behind it."""
    put_many, set_names, commit_all = Store.put_many, Store.set_names, Store.commit
    late: list[tuple[bytes, bytes]] = []

    def later(store, items):
        late.extend(items)
        return len(late)

    def catch_up(store) -> None:
        put_many(store, late)
        late.clear()

    def names_first(store, changes) -> None:
        set_names(store, changes)
        store.write_out()
        catch_up(store)

    def commit_late(store) -> None:
        catch_up(store)
        commit_all(store)

    patch.setattr(Store, "put_many", later)
    patch.setattr(Store, "set_names", names_first)
    patch.setattr(Store, "commit", commit_late)


# ------------------------------------------------------------------------------- recovery


def values_of_the_tail_not_verified(patch: Patch) -> None:
    whole = segment.read_entries

    def unchecked(volume, slot, offset, header, *, verify_values):
        return whole(volume, slot, offset, header, verify_values=False)

    patch.setattr(recover, "read_entries", unchecked)


def group_checksum_ignored(patch: Patch) -> None:
    """Each record is still checked alone: a group torn between two of them goes through."""
    whole = segment.read_entries

    def unchecked(volume, slot, offset, group, *, verify_values):
        packed = volume.try_read(slot, offset, group.size_bytes)
        at, checksum = fmt.GROUP_HEADER.size_bytes, volume.seed
        for _ in range(group.record_count):
            head = fmt.decode_record_head(packed, at, volume.seed)
            if head is None:
                return None
            checksum = crc32(packed[at : at + 24 + head.key_size_bytes], checksum)
            at += fmt.record_size(head.key_size_bytes, head.value_size_bytes)
        believed = group._replace(records_checksum=checksum)
        return whole(volume, slot, offset, believed, verify_values=verify_values)

    patch.setattr(recover, "read_entries", unchecked)


def log_resumed_after_a_torn_group(patch: Patch) -> None:
    def gapless(volume, slot, sequence, start, *end):
        whole = [
            found
            for found in past_damage.group_headers(volume, slot, sequence, start, *end)
            if segment.read_group(volume, slot, *found, verify_values=True) is not None
        ]
        first = min((header.number for _, header in whole), default=0)
        for number, (offset, header) in enumerate(whole, min(first, 10)):
            yield offset, header._replace(number=number)

    patch.setattr(recover, "group_headers", gapless)


def epoch_ignored(patch: Patch) -> None:
    """A dropped tail comes back when the next life's group has the length of a dropped one."""
    original = fmt.GROUP_HEADER.open

    def same_epoch(buffer, offset=0, seed=0):
        header = original(buffer, offset, seed)
        return header and header._replace(epoch=1)

    patch.setattr(fmt.GROUP_HEADER, "open", same_epoch)


def footer_believed_without_its_summary(patch: Patch) -> None:
    def believed(self, segment, last_group) -> bool:
        footer = self._identities[segment.slot].footer
        return footer is not None and footer.last_group == last_group

    patch.setattr(_Replay, "is_sealed", believed)


def put_sectors(run: Run, prefix: bytes = b"row") -> None:
    """Records that begin where sectors do: a group of them may be torn into whole records."""
    for size_bytes in (512 - 64, *[512] * 7):
        key = b"%b %06d" % (prefix, len(run.states))
        put(run, key, size_bytes - fmt.RECORD_HEADER.size_bytes - len(key))


def put_other_sectors(run: Run) -> None:
    put_sectors(run, b"tow")


def delete_tiny(run: Run) -> None:
    """Its segment stays in use: all but 40 bytes of it are alive."""
    delete(run, [b"tiny 5"])


BURYING = (
    delete_tiny, put_large, put_large, delete_new, put_large, commit, compact, put_small, write_out,
)  # fmt: skip
TWICE = (put_small, write_out, put_small, write_out)
SEALING = (*[put_sectors] * 4, put_large, put_large, put_large, commit)
DEFECTS = {
    defect.plant.__name__: defect
    for defect in (
        Defect(commit_without_flush),
        Defect(
            segment_wiped_before_its_copies_are_durable,
            ((delete_old, compact), (delete_old, compact, put_large)),
        ),
        Defect(
            superblock_copies_written_without_a_sync_in_between, ((checkpoint, checkpoint, reopen),)
        ),
        Defect(
            tombstones_dropped_while_what_they_bury_is_there,
            (BURYING,),
            torn=0,
        ),
        Defect(name_written_before_the_blocks_it_needs, ((put_small, set_names, commit),)),
        Defect(values_of_the_tail_not_verified),
        Defect(
            group_checksum_ignored,
            ((put_sectors, write_out),),
            again=((put_other_sectors, write_out),),
        ),
        Defect(log_resumed_after_a_torn_group, ((put_pair, write_out, put_small, write_out),)),
        Defect(epoch_ignored, (TWICE,), again=((put_small, commit), (put_small, write_out))),
        Defect(footer_believed_without_its_summary, (SEALING,)),
    )
}


@pytest.fixture(scope="module")
def past():
    print(f"CRASH_SEED={SEED}")
    return prepared(SEED)


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_found_by_cutting_the_power(past, monkeypatch, name):
    defect = DEFECTS[name]
    defect.plant(monkeypatch)
    for operations in defect.lives:
        # Without a cut nothing is wrong: what follows is the oracle's judgement, not a crash.
        run = Run(SIZE_BYTES, *past)
        perform(run, operations)
        run.store.commit()
        assert contents(run.store) == run.state
    with pytest.raises((AssertionError, StoreError)):
        explore(past, defect, defect.torn)


@pytest.mark.parametrize("name", DEFECTS)
def test_same_lives_without_the_defect_are_sound(past, name):
    explore(past, DEFECTS[name], min(DEFECTS[name].torn, 4))


# ----------------------------------------------------- defects that rot and failing disks show


def test_defect_checkpoint_trusted_without_its_checksum_is_found(monkeypatch):
    test_space.test_damaged_checkpoint_costs_time_and_no_data(3)
    monkeypatch.setattr(checkpoint_module, "crc32", lambda part, start=0: 0)
    with pytest.raises((AssertionError, StoreError)):
        test_space.test_damaged_checkpoint_costs_time_and_no_data(3)


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_defect_failed_write_or_sync_forgotten_is_found(monkeypatch, kind):
    test_durability.test_failed_sync_or_write_latches_read_only_for_good_and_reads_go_on(kind)
    latched = Log.guarded

    def forgetful(self, write):
        try:
            return latched(self, write)
        finally:
            self.failure = None

    monkeypatch.setattr(Log, "guarded", forgetful)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_durability.test_failed_sync_or_write_latches_read_only_for_good_and_reads_go_on(kind)


def test_defect_value_checksum_ignored_by_readers_is_found(monkeypatch):
    test_durability.test_wrong_byte_in_a_value_is_damaged_and_check_names_it()
    opened = Store.open.__func__
    monkeypatch.setattr(
        Store, "open", classmethod(lambda cls, device: opened(cls, device, verify_reads=False))
    )
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_durability.test_wrong_byte_in_a_value_is_damaged_and_check_names_it()
