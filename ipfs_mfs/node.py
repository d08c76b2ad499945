"""A node of this process: device -> store -> repository -> roots and pins, wired in one place.

`Node` is the local implementation of `api.NodeApi`: what a command asks for, in the words of the
layers below. It holds no state of its own but the wiring, so it is as thread-safe as they are.
Invariant: what changes something returns when the change is durable.
"""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from blkdev import superblock as superblocks
from blkdev.care.signature import refuse_foreign
from blkdev.compaction.pace import Pace
from blkdev.device import open_device
from blkdev.devices.file import FileDevice
from blkdev.errors import DeviceReadOnly
from blkdev.store import Store
from ipfs_mfs import __version__, address, api, care, checking, content, owner
from ipfs_mfs.config import Config
from ipfs_mfs.errors import UsageError
from ipfs_mfs.ingest import LocalIngest
from ipfs_mfs.names import check_pin_name, check_root_name
from ipfs_mfs.sizes import size_text
from ipld import cid as cids
from ipld.errors import IpldError
from ipld.profile import by_name
from mfs.errors import MfsError, RootNotFound
from mfs.roots import Roots, RootStat, SnapshotStat
from pinning.pins import Pin, Pins
from repo.errors import RepoError
from repo.service import Repo

COMPACTION_STEP_BYTES = 64 << 20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store with everything on top of it, and the right to have it open."""

    config: Config
    lock: owner.Lock
    store: Store
    repo: Repo
    roots: Roots
    pins: Pins


def open_store(config: Config, lock: owner.Lock) -> Opened:
    """Opens what is configured. A store that cannot be written can still be read."""
    with ExitStack() as undo:
        try:
            device = open_device(config.store)
        except DeviceReadOnly:
            device = open_device(config.store, read_only=True)
        undo.callback(device.close)
        # The repository compares every block with its hash, so the engine need not.
        store = Store.open(device, read_only=device.read_only, verify_reads=False)
        repo = Repo.open_blkdev(store)
        opened = Opened(config, lock, store, repo, Roots(repo, time.time_ns), Pins(repo))
        undo.pop_all()
        return opened


def format_device(config: Config, size_bytes: int | None, force: bool) -> None:
    """An empty store without roots. A file that was refused keeps its size, and one that was not
    there is not left behind. Raises the engine's errors.
    """
    path = config.store
    is_new = not path.exists()
    if path.is_block_device():
        device = open_device(path)
    else:
        existing = 0 if is_new else path.stat().st_size
        if existing and not force:
            with closing(FileDevice(path, read_only=True)) as present:
                refuse_foreign(present)
        wanted = size_bytes or existing or config.store_size_bytes
        device = FileDevice(path, create_size_bytes=wanted)
    try:
        Store.format(device, segment_size_bytes=config.segment_size_bytes, force=force)
    except BaseException:
        if is_new:
            path.unlink()
        raise
    finally:
        device.close()


def inspect_device(config: Config) -> str:
    """One line about a store that nobody has open; changes nothing. Raises StoreError, OSError."""
    device = open_device(config.store, read_only=True)
    try:
        block = superblocks.load(device)
    finally:
        device.close()
    size = size_text(block.device_size_bytes)
    if block.clean:
        return f"store of {size}, closed in order"
    this_boot = bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
    why = "its process was killed" if block.boot_id == this_boot else "the machine went down"
    return f"store of {size}, not closed in order because {why}; it recovers when it is opened"


class Node:
    """`api.NodeApi` on a store that this process owns."""

    def __init__(self, opened: Opened) -> None:
        self.config = opened.config
        self.roots = opened.roots
        self._lock = opened.lock
        self._store = opened.store
        self._repo = opened.repo
        self._pins = opened.pins
        self._pace = Pace(opened.config.compact_bytes_per_s)

    @classmethod
    def open(cls, config: Config, lock: owner.Lock) -> "Node":
        """Raises what opening a device, a store and its roots raises."""
        return cls(open_store(config, lock))

    def close(self) -> None:
        """Everything into the DAG, the store closed, then the ownership given away."""
        with ExitStack() as closing:
            closing.callback(self._lock.release)
            closing.callback(self._store.close)
            if not self._store.read_only:
                closing.callback(self._repo.close)
                closing.callback(self.roots.close)

    def flush_due(self) -> None:
        """For the daemon's tick: roots that were idle or dirty for long enough go into the DAG."""
        self.roots.flush_due(time.time_ns())

    def info(self) -> api.NodeInfo:
        return api.NodeInfo(
            version=__version__,
            pid=os.getpid(),
            store=str(self.config.store),
            daemon=False,
            log="",
            mounts=(),
        )

    def mounts(self) -> tuple[api.MountInfo, ...]:
        return ()

    def mount(self, mountpoint: str, options: str) -> api.MountInfo:
        raise UsageError(f"{mountpoint} with {options!r}: only a daemon mounts", "ipfs-mfs mount")

    def umount(self, mountpoint: str) -> None:
        raise UsageError(f"{mountpoint}: only a daemon has mounts", "ipfs-mfs umount")

    def changing(self, *_names: str) -> AbstractContextManager[None]:
        """Around a change of these roots; a daemon tells its mounts."""
        return nullcontext()

    def snapshot_dropped(self, name: str, snapshot: str) -> None:
        """After a snapshot has gone; a daemon tells its mounts."""

    # --------------------------------------------------------------------------- roots

    def sync(self, root: str | None) -> list[api.RootCid]:
        return [api.RootCid(name, cids.to_text(cid)) for name, cid in self.roots.sync(root)]

    def root_cid(self, name: str) -> bytes:
        """CID of a root's present content. Raises RootNotFound."""
        if self._store.read_only:
            return self.roots.stat(name).cid
        return self.roots.sync(name)[0][1]

    def root_create(
        self, name: str, profile: str | None, quota_bytes: int | None, cid: str | None
    ) -> api.RootInfo:
        check_root_name(name)
        chosen = by_name(profile or self.config.profile)
        binary = None if cid is None else self._resolve(cid)
        with self.changing(name):
            return self._root_info(self.roots.create(name, chosen, binary, quota_bytes))

    def has_root(self, name: str) -> bool:
        try:
            self.roots.stat(name)
        except RootNotFound:
            return False
        return True

    def root_list(self) -> list[api.RootInfo]:
        return [self._root_info(stat) for stat in self.roots.list()]

    def root_stat(self, name: str) -> api.RootInfo:
        return self._root_info(self.roots.stat(name))

    def root_drop(self, name: str, snapshot: str | None) -> None:
        if snapshot is not None:
            self.roots.drop_snapshot(name, snapshot)
            self.snapshot_dropped(name, snapshot)
            return
        with self.changing(name):
            self.roots.drop(name)

    def root_rename(self, name: str, new_name: str) -> api.RootInfo:
        check_root_name(new_name)
        with self.changing(name, new_name):
            return self._root_info(self.roots.rename(name, new_name))

    def root_snapshot(self, name: str, snapshot: str) -> api.SnapshotInfo:
        return _snapshot_info(self.roots.snapshot(name, check_root_name(snapshot, "snapshot")))

    def root_snapshots(self, name: str) -> list[api.SnapshotInfo]:
        infos = [
            _snapshot_info(self.roots.snapshot_stat(name, snapshot))
            for snapshot in self.roots.snapshots(name)
        ]
        return sorted(infos, key=lambda info: (info.created_ns, info.name))

    def root_clone(self, name: str, snapshot: str | None, new_name: str) -> api.RootInfo:
        check_root_name(new_name)
        with self.changing(new_name):
            return self._root_info(self.roots.clone(name, snapshot, new_name))

    def root_restore(self, name: str, snapshot: str) -> api.RootInfo:
        with self.changing(name):
            return self._root_info(self.roots.restore(name, snapshot))

    def root_diff(self, first: str, second: str) -> Iterator[api.Difference]:
        with self._repo.lease():
            for difference in self.roots.diff(first, second):
                yield api.Difference(difference.change, difference.path)

    def root_log(self, name: str) -> list[api.HistoryEntry]:
        return [
            api.HistoryEntry(time_ns, cids.to_text(cid)) for time_ns, cid in self.roots.log(name)
        ]

    def _root_info(self, stat: RootStat) -> api.RootInfo:
        return api.RootInfo(
            name=stat.name,
            cid=cids.to_text(stat.cid),
            profile=stat.profile.name,
            size_bytes=stat.used_bytes,
            dag_size_bytes=stat.dag_size_bytes,
            entries=stat.inode_count,
            snapshots=len(self.roots.snapshots(stat.name, of_any=True)),
            quota_bytes=stat.quota_bytes,
            created_ns=stat.created_ns,
            changed_ns=stat.changed_ns,
            is_dirty=stat.is_dirty,
            dirty_bytes=stat.dirty_bytes,
        )

    # ------------------------------------------------------------------------- content

    def ingest(self) -> LocalIngest:
        return LocalIngest(
            self._repo,
            self._pins,
            lambda root: self.root_create(root.name, self.config.profile, None, root.cid),
        )

    def stat(self, address: str) -> api.ContentInfo:
        return content.stat(address, self._resolve(address), self._repo.get)

    def ls(self, address: str) -> Iterator[api.EntryInfo]:
        with self._repo.lease() as lease:
            lease.keep((cid := self._resolve(address),))
            yield from content.entries(cid, self._repo.get)

    def cat(self, address: str, offset: int, length: int | None) -> Iterator[bytes]:
        with self._repo.lease() as lease:
            lease.keep((cid := self._resolve(address),))
            yield from content.pieces(cid, self._repo.get, self._repo.view, offset, length)

    def tree(self, address: str) -> Iterator[api.TreeItem]:
        with self._repo.lease() as lease:
            lease.keep((cid := self._resolve(address),))
            yield from content.tree(cid, self._repo.get, self._repo.view)

    def export(self, address: str, since: str | None) -> Iterator[bytes]:
        with self._repo.lease() as lease:
            base = None if since is None else self._resolve(since)
            lease.keep((cid := self._resolve(address), *([] if base is None else [base])))
            yield from content.car(cid, self._repo.get, base)

    # ---------------------------------------------------------------------------- pins

    def pin_add(self, address: str, recursive: bool, name: str) -> api.PinInfo:
        return _pin_info(
            self._pins.add(self._resolve(address), recursive=recursive, name=check_pin_name(name))
        )

    def pin_rm(self, address: str) -> api.PinInfo:
        cid = self._resolve(address)
        pin = self._pins.get(cid)
        self._pins.remove(cid)
        return _pin_info(pin or Pin(cid, True, ""))

    def pin_ls(self) -> list[api.PinInfo]:
        return [_pin_info(pin) for pin in self._pins.list()]

    def pin_state(self, cid: bytes) -> str:
        """For the attribute `ipfs.pinned`: recursive, direct, indirect or no."""
        pin = self._pins.get(cid)
        if pin is not None:
            return "recursive" if pin.recursive else "direct"
        pinned = [other.cid for other in self._pins.list() if other.recursive]
        return "indirect" if content.is_below(cid, pinned, self._repo.get) else "no"

    # --------------------------------------------------------------------- maintenance

    def gc(self, dry_run: bool, progress: api.ProgressCallback) -> api.GcSummary:
        report = self._repo.gc(
            dry_run=dry_run,
            progress=lambda _phase, done, total: progress(api.Progress(done, total or 0)),
        )
        return api.GcSummary(
            dry_run=report.dry_run,
            blocks_removed=report.freed_count,
            bytes_removed=report.freed_bytes,
            blocks_kept=report.kept_count,
            bytes_reclaimed=report.reclaimed_bytes,
            blocks_missing=report.missing_count,
            missing=tuple(cids.to_text(cid) for cid in report.missing),
        )

    def check(self, progress: api.ProgressCallback, repair: bool = False) -> api.CheckSummary:
        notes = () if self._store.read_only else self._sync_for_check()
        mended = care.repair_store(self._store, progress) if repair else care.NOT_REPAIRED
        summary = checking.check(self._store, self._repo, progress)
        findings = (*notes, *mended.findings, *summary.findings)
        return summary._replace(findings=findings, repair=mended.summary)

    def scrub(
        self, rate_bytes_s: int | None, restart: bool, progress: api.ProgressCallback
    ) -> api.ScrubSummary:
        return care.scrub_store(self._store, rate_bytes_s, restart, progress)

    def dump(self, what: str, argument: str) -> Iterator[api.DumpItem]:
        return care.dump_device(self._store.device, what, argument)

    def _sync_for_check(self) -> tuple[api.Finding, ...]:
        """A store that is full or damaged cannot take the latest changes; it is checked even so."""
        try:
            self.roots.sync()
        except (MfsError, RepoError, IpldError) as error:
            why = f"the latest changes are not in the DAG: {error}"
            return (api.Finding("note", "roots", "", why),)
        return ()

    def compact(self, progress: api.ProgressCallback) -> api.CompactSummary:
        """In steps, so that it can report and be interrupted; each step is whole by itself."""
        total = self._store.stats().dead_bytes
        freed = moved_bytes = freed_bytes = 0
        while True:
            report = self._store.compact(COMPACTION_STEP_BYTES)
            freed += report.segments_freed
            moved_bytes += report.copied_bytes
            freed_bytes += report.reclaimed_bytes
            if not report.segments_freed:
                return api.CompactSummary(freed, moved_bytes, freed_bytes)
            progress(api.Progress(min(freed_bytes, total), total))

    def resize(self, size_bytes: int | None, progress: api.ProgressCallback) -> api.ResizeSummary:
        def report(done: int, total: int) -> None:
            progress(api.Progress(done, total))

        done = self._store.resize(size_bytes, progress=report)
        return api.ResizeSummary(
            store=str(self.config.store),
            size_bytes=done.device_size_bytes,
            segments_before=done.segments_before,
            segments=done.segments,
            bytes_moved=done.moved_bytes,
            free_bytes=self._store.stats().free_bytes,
            file_fits=done.cut,
        )

    def compact_due(self, now_s: float) -> None:
        """For the daemon's tick: gives dead space back, at the configured rate and where it is
        worth it. Raises StoreError."""
        budget_bytes = self._pace.budget(now_s, self._store.stats())
        if budget_bytes:
            self._pace.spend(self._store.compact(budget_bytes, background=True))

    def stats(self) -> api.StatsSummary:
        stats = self._store.stats()
        names = [name.partition("/")[0] for name, _ in self._repo.refs.list("")]
        info = self.info()
        return api.StatsSummary(
            store=str(self.config.store),
            device_bytes=self._store.device.size_bytes,
            used_bytes=stats.used_bytes,
            live_bytes=stats.live_bytes,
            dead_bytes=stats.dead_bytes,
            free_bytes=stats.free_bytes,
            blocks=stats.keys,
            segments=stats.segments,
            segments_free=stats.segments_free,
            roots=names.count("root"),
            snapshots=names.count("snapshot"),
            pins=names.count("pin"),
            daemon_pid=info.pid if info.daemon else 0,
            mounts=info.mounts,
        )

    def _resolve(self, text: str) -> bytes:
        """CID of what an ADDR names; of a root, as of now."""
        parsed = address.parse(text)
        if parsed.cid is not None:
            top = parsed.cid
        elif parsed.root is not None and parsed.snapshot is not None:
            top = self.roots.snapshot_stat(parsed.root, parsed.snapshot).cid
        else:
            assert parsed.root is not None, "an address is a CID or a root"
            top = self.root_cid(parsed.root)
        return content.find(top, parsed.segments, self._repo.get)


def _snapshot_info(stat: SnapshotStat) -> api.SnapshotInfo:
    return api.SnapshotInfo(stat.root, stat.name, cids.to_text(stat.cid), stat.created_ns)


def _pin_info(pin: Pin) -> api.PinInfo:
    return api.PinInfo(cids.to_text(pin.cid), pin.recursive, pin.name)
