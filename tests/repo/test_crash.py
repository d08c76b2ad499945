"""Power cuts under a whole repository: a ref that is there has its blocks, whatever was lost.

The device records what is written and synced. After each event the power fails three times: all
unsynced writes are lost, all arrived, or an arbitrary part of them did.
"""

import random
from collections.abc import Iterator

import pytest

from blkdev.device import RamDevice
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from ipld import walk
from pinning.pins import Pins
from repo.refs import Ref
from repo.service import Repo
from tests.repo.dags import leaf, tree

DEVICE_SIZE_BYTES = 20 << 20
SEGMENT_SIZE_BYTES = 256 << 10


class Acknowledged:
    """What the repository has promised so far, and the event after which it did."""

    def __init__(self, device: RamDevice) -> None:
        self.device = device
        self.promises: list[tuple[int, dict[str, bytes]]] = [(0, {})]

    def note(self, repo: Repo) -> None:
        refs = {name: ref.links[0] for name, ref in repo.refs.list()}
        self.promises.append((len(self.device.events), refs))

    def at(self, event: int) -> dict[str, bytes]:
        return [refs for when, refs in self.promises if when <= event][-1]


def history(device: RamDevice, acknowledged: Acknowledged) -> list[dict[str, bytes]]:
    """Trees come, are named, pinned, replaced and collected; returns each state of the refs."""
    repo = Repo.open_blkdev(Store.open(device, verify_reads=False))
    pins = Pins(repo)
    states: list[dict[str, bytes]] = [{}]

    def changed() -> None:
        states.append({name: ref.links[0] for name, ref in repo.refs.list()})

    for round_ in range(15):
        root, blocks = tree(f"round {round_}", depth=2, width=4)
        with repo.lease():
            repo.put_many(blocks)
            repo.put_many(leaf(f"{round_} {n}" * 300) for n in range(20))
            repo.refs.update({"root/main": Ref(links=(root.cid,))})
            changed()
        repo.commit()
        acknowledged.note(repo)
        if round_ % 2:
            pins.add(root.cid, name=str(round_))
            changed()
            acknowledged.note(repo)
        if round_ % 3 == 2:
            repo.gc()
            acknowledged.note(repo)
    repo.refs.update({"root/main": None})
    changed()
    repo.gc()
    acknowledged.note(repo)
    return states


def pages_after(device: RamDevice, start: dict[int, bytes], event: int, kept: str):
    """The device's pages if the power fails after that many events."""
    rng = random.Random(event)
    pages, pending = dict(start), []
    for what in device.events[:event]:
        if what.kind == "write":
            pending.append(what)
        elif what.kind == "sync":
            for write in pending:
                store(pages, write.offset, write.data)
            pending = []
    for write in pending:
        if kept == "all" or (kept == "some" and rng.random() < 0.5):
            store(pages, write.offset, write.data)
    return pages


def store(pages: dict[int, bytes], offset: int, data: bytes) -> None:
    for at in range(0, len(data), PAGE_SIZE_BYTES):
        pages[(offset + at) // PAGE_SIZE_BYTES] = data[at : at + PAGE_SIZE_BYTES]


def crashes() -> Iterator[tuple[str, int, dict[int, bytes], Acknowledged, list[dict[str, bytes]]]]:
    formatted = RamDevice(DEVICE_SIZE_BYTES)
    Store.format(formatted, segment_size_bytes=SEGMENT_SIZE_BYTES)
    device = RamDevice(DEVICE_SIZE_BYTES, record=True, pages=dict(formatted.pages))
    acknowledged = Acknowledged(device)
    states = history(device, acknowledged)
    for event in range(len(device.events) + 1):
        for kept in ("none", "all", "some"):
            pages = pages_after(device, formatted.pages, event, kept)
            yield kept, event, pages, acknowledged, states


@pytest.mark.slow
def test_every_ref_is_complete_after_any_power_cut():
    count = 0
    for kept, event, pages, acknowledged, states in crashes():
        repo = Repo.open_blkdev(Store.open(RamDevice(DEVICE_SIZE_BYTES, pages=pages)))
        refs = {name: ref.links[0] for name, ref in repo.refs.list()}
        where = f"after event {event}, {kept} of the unsynced writes kept"
        assert refs in states, where
        assert states.index(refs) >= states.index(acknowledged.at(event)), where
        for cid in refs.values():
            assert sum(1 for _ in walk.walk([cid], repo.get)) == 21, where
        assert repo.gc().missing_count == 0, where
        repo.close()
        count += 1
    assert count > 100
