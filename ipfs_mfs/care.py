"""Check, repair, scrub and dump as the program offers them: the engine's work, with its findings in
the words of names and CIDs.

`Patient` does them on a store that this process opens itself, also when that is too damaged for its
roots to be opened. A node does the same with the store that it has.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from blkdev.care import check as checks
from blkdev.care.dump import Dumper, Item, superblocks
from blkdev.device import Device, open_device
from blkdev.errors import DeviceReadOnly, StoreError
from blkdev.store import Store
from ipfs_mfs import api
from ipfs_mfs.config import Config
from ipfs_mfs.errors import BadRequest
from ipfs_mfs.owner import Lock
from ipld import cid as cids
from ipld.errors import IpldError
from mfs.errors import MfsError
from repo.errors import NotARepository, RepoError

DUMPS = ("superblock", "segments", "segment", "record", "checkpoint", "names", "journals")


class Mended(NamedTuple):
    """What a repair found and did."""

    findings: tuple[api.Finding, ...]
    summary: api.RepairSummary


NOT_REPAIRED = Mended((), api.RepairSummary())


def bytes_progress(progress: api.ProgressCallback) -> Callable[[int, int], None]:
    """The engine's way to report, on the program's."""
    return lambda done, total: progress(api.Progress(done, total))


def finding_of(found: checks.Finding, severity: str = "damaged") -> api.Finding:
    """What the engine found, with the CID or the name of what is hit."""
    place = f"device offset {found.device_offset}"
    where, cid = place, ""
    if found.lost in ("name", "removal of a name") and found.key:
        where = f"{found.lost} {found.key.decode(errors='backslashreplace')}"
    elif found.lost in ("journal record", "trim of a journal"):
        where = f"{found.lost} in stream {int.from_bytes(found.key, 'little')}"
    elif found.lost == "block" and found.key:
        cid = _cid_text(found.key)
    what = found.what if where == place else f"{found.what} ({place})"
    return api.Finding(severity, where, cid, what)


def _cid_text(key: bytes) -> str:
    try:
        return cids.to_text(cids.make(1, cids.RAW, key))
    except IpldError:
        return f"key {key.hex()}"


def repair_store(store: Store, progress: api.ProgressCallback) -> Mended:
    """Repair, and say what was found, what is lost and what could not be mended.

    A lost block is not lost to those who have it elsewhere, and perhaps nobody needs it: whether
    somebody does, the check of the names says.
    """
    report = store.repair(bytes_progress(progress))
    lost = {found.device_offset for found in report.lost}
    mended = [
        finding_of(found, "repaired")
        for found in report.found.findings
        if found.device_offset not in lost
    ]
    gone = [
        finding_of(found, "repaired" if found.lost == "block" else "lost") for found in report.lost
    ]
    gone = [item._replace(problem=f"dropped: {item.problem}") for item in gone]
    summary = api.RepairSummary(
        records_kept=report.records_kept,
        records_lost=len(report.lost),
        segments_freed=report.segments_freed,
        segments_retired=report.segments_retired,
    )
    return Mended((*mended, *gone), summary)


def scrub_store(
    store: Store, rate_bytes_s: int | None, restart: bool, progress: api.ProgressCallback
) -> api.ScrubSummary:
    report = store.scrub(
        rate_bytes_s=rate_bytes_s, restart=restart, progress=bytes_progress(progress)
    )
    findings = tuple(finding_of(found) for found in report.findings)
    return api.ScrubSummary(
        report.resumed, report.segments, report.records, report.bytes_read, findings
    )


def dump_device(device: Device, what: str, argument: str) -> Iterator[api.DumpItem]:
    """Raises BadRequest for what cannot be asked, and the engine's errors."""
    for item in _items(device, what, argument):
        yield api.DumpItem(item.kind, max(0, item.device_offset), item.damaged, _json(item))


def _json(item: Item) -> str:
    return json.dumps(item.fields)


def _items(device: Device, what: str, argument: str) -> Iterator[Item]:
    if what == "superblock":
        return superblocks(device)
    if what == "segment":
        return Dumper(device).segment(_number(argument, "the number of a segment"))
    if what == "record":
        return _record(device, argument)
    plain = {
        "segments": Dumper.segments,
        "checkpoint": Dumper.checkpoint,
        "names": Dumper.names,
        "journals": Dumper.journals,
    }
    if what not in plain:
        raise BadRequest(f"{what!r} is nothing that can be shown", f"one of {', '.join(DUMPS)}")
    return plain[what](Dumper(device))


def _record(device: Device, argument: str) -> Iterator[Item]:
    """By device offset, by CID, by key in hexadecimal digits, or by name."""
    if argument.isdecimal():
        return Dumper(device).record_at(int(argument))
    try:
        key = cids.multihash_of(cids.parse(argument))
    except IpldError:
        try:
            key = bytes.fromhex(argument)
        except ValueError:
            key = argument.encode(errors="surrogateescape")
    if not key:
        raise BadRequest("a record is named by its CID, key, name or device offset")
    return Dumper(device).record_of(key)


def _number(text: str, meaning: str) -> int:
    if not text.isdecimal():
        raise BadRequest(f"{text!r} is not {meaning}")
    return int(text)


class Patient:
    """`api.CareApi` on a store that nobody has open. Owns the lock until closed."""

    def __init__(self, config: Config, lock: Lock) -> None:
        self._config = config
        self._lock = lock

    def close(self) -> None:
        self._lock.release()

    def _store(self) -> Store:
        try:
            device = open_device(self._config.store)
        except DeviceReadOnly:
            device = open_device(self._config.store, read_only=True)
        try:
            return Store.open(device, read_only=device.read_only, verify_reads=False)
        except BaseException:
            device.close()
            raise

    def check(self, progress: api.ProgressCallback, repair: bool = False) -> api.CheckSummary:
        """Everything when the roots can be opened, else what the engine can say."""
        from ipfs_mfs.node import Node

        mended = NOT_REPAIRED
        if repair:
            with self._store() as store:
                mended = repair_store(store, progress)
        try:
            with closing(Node.open(self._config, Lock.none())) as node:
                summary = node.check(progress)
        except (StoreError, RepoError, MfsError) as error:
            summary = self._engine_only(progress, error)
        findings = (*mended.findings, *summary.findings)
        return summary._replace(findings=findings, repair=mended.summary)

    def _engine_only(self, progress: api.ProgressCallback, why: Exception) -> api.CheckSummary:
        with self._store() as store:
            report = store.check(bytes_progress(progress))
        findings = [finding_of(found) for found in report.findings]
        # A datastore has no roots, and its records are as good to check as any.
        severity = "note" if isinstance(why, NotARepository) else "damaged"
        findings.append(api.Finding(severity, "roots", "", f"they cannot be opened: {why}"))
        return api.CheckSummary(
            report.live_records, report.bytes_read, 0, tuple(findings), api.RepairSummary()
        )

    def scrub(
        self, rate_bytes_s: int | None, restart: bool, progress: api.ProgressCallback
    ) -> api.ScrubSummary:
        with self._store() as store:
            return scrub_store(store, rate_bytes_s, restart, progress)

    def dump(self, what: str, argument: str) -> Iterator[api.DumpItem]:
        with closing(open_device(self._config.store, read_only=True)) as device:
            yield from dump_device(device, what, argument)
