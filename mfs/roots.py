"""Named roots, their snapshots and their trees: the face of this layer.

    roots = Roots(repo)
    roots.create("main")
    tree = roots.tree("main")
    roots.snapshot("main", "monday")
    roots.clone("main", "monday", "experiment")
    roots.close()

A root is the ref `root/NAME`, a snapshot the ref `snapshot/NAME/SNAP`; both hold a head
(`mfs.heads`). Snapshot, clone and restore copy that record, so they take the same time for any
size. A snapshot outlives its root.

Opening replays the journals of all roots: what was acknowledged before a crash is in the DAG when
the constructor returns. It must come before a gc of the store, which knows nothing of journals.

Thread-safe. `lock` guards the set of roots and trees and is taken before the locks of a tree
(`mfs.core`); it is held while a root is flushed for a snapshot, never while a file is read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from threading import RLock

from ipld.errors import IpldError
from ipld.filedag import FileLink
from ipld.profile import UNIXFS_V1_2025, Profile
from mfs import diff
from mfs.core import OPEN_REFS, Core, SaveHead
from mfs.errors import (
    DataError,
    NoSpace,
    RootExists,
    RootNotFound,
    SnapshotExists,
    SnapshotNotFound,
    TooManyRoots,
    TreeError,
)
from mfs.flush import flush
from mfs.heads import Head, from_ref
from mfs.journal import commit, discard, replay
from mfs.lazy import directory_record
from mfs.namespace import Clock
from mfs.newroot import empty_head, foreign_head, imported_head
from mfs.node import ROOT_INO, StatFs, Top
from mfs.rootfacts import (
    NAME_SIZE_MAX_BYTES,
    RootStat,
    SnapshotStat,
    check_name,
    root_stat,
    snapshot_stat,
)
from mfs.table import CACHE_SIZE_BYTES, NodeCache
from mfs.tree import Tree
from repo.errors import RepoError, StoreFull
from repo.refs import Ref
from repo.service import Repo

__all__ = ["FLUSH_AGE_NS", "FLUSH_IDLE_NS", "RootStat", "Roots", "SnapshotStat", "check_name"]

FLUSH_IDLE_NS = 5 * 10**9
FLUSH_AGE_NS = 30 * 10**9
ROOT_ID_MAX = 65_535

List = list
"""`Roots.list` hides the builtin inside of the class."""

_ROOT, _SNAPSHOT = "root/", "snapshot/"
_log = logging.getLogger(__name__)


class Roots:
    """All roots of one store. `clock` gives nanoseconds since 1970."""

    def __init__(self, repo: Repo, clock: Clock = time.time_ns) -> None:
        self._repo = repo
        self._clock = clock
        self._cache = NodeCache(CACHE_SIZE_BYTES)
        self.lock = RLock()
        self._cores: dict[str, Core] = {}
        self._trees: dict[str, Tree] = {}
        self._damaged: dict[str, DataError] = {}
        self._complained: set[str] = set()
        self._open_cids = 0
        leftovers: dict[str, Ref | None] = {name: None for name, _ in repo.refs.list(OPEN_REFS)}
        if leftovers:  # a store that was opened read-only takes not even an empty update
            repo.refs.update(leftovers)
        for name, ref in repo.refs.list(_ROOT):
            self._recover(name.removeprefix(_ROOT), ref)

    # ---------------------------------------------------------------------------------- roots

    def create(
        self,
        name: str,
        profile: Profile = UNIXFS_V1_2025,
        cid: bytes | None = None,
        quota: int | None = None,
        *,
        uid: int | None = None,
        gid: int | None = None,
        mode: int = 0o755,
    ) -> RootStat:
        """A new root: empty, or with the content of a UnixFS directory, of which O(1) is read.

        `quota` in bytes. The top directory belongs to this process's user unless told otherwise.
        Durable. Raises InvalidRootName, RootExists, NotARoot, NoSpace, BlockUnavailable.
        """
        check_name(name)
        uid = os.geteuid() if uid is None else uid
        top = Top(uid, os.getegid() if gid is None else gid, mode)
        with self.lock, self._repo.lease():
            if self._repo.refs.get(_ROOT + name) is not None:
                raise RootExists(name)
            root_id, now = self._free_root_id(), self._clock()
            try:
                if cid is None:
                    head = empty_head(self._repo, self._cache, root_id, profile, top, now)
                else:
                    head = imported_head(self._repo, self._cache, root_id, profile, cid, top, now)
            except StoreFull as error:
                raise NoSpace from error
            self._add(name, replace(head, quota_bytes=quota))
        return self.stat(name)

    def list(self) -> list[RootStat]:
        """All roots, by name; those whose record is damaged were logged and are left out."""
        with self.lock:
            names = [name.removeprefix(_ROOT) for name, _ in self._repo.refs.list(_ROOT)]
            return [self.stat(name) for name in names if name not in self._damaged]

    def stat(self, name: str) -> RootStat:
        """Facts about a root, in constant time. Raises RootNotFound."""
        with self.lock:
            core = self._cores.get(name)
            if core is None:
                head = self._head(name)
                return root_stat(name, head, head.totals, is_dirty=False, dirty_bytes=0)
            with core.lock:
                totals, dirty_bytes = core.state.totals, core.memory_bytes
                return root_stat(
                    name, core.head, totals, is_dirty=core.is_dirty, dirty_bytes=dirty_bytes
                )

    def drop(self, name: str) -> None:
        """Delete a root, durably; its snapshots stay. Open files of it become stale."""
        with self.lock:
            root_id = _claimed_root_id(self._ref(name))
            self._retire(name)
            self._repo.refs.update({_ROOT + name: None})
            discard(self._repo, root_id)
            self._repo.commit()

    def rename(self, name: str, new_name: str) -> RootStat:
        """Give a root and its snapshots another name, atomically and durably; it stays open.

        Raises RootNotFound, RootExists, SnapshotExists (left behind by a dropped root).
        """
        check_name(new_name)
        with self.lock:
            ref = self._ref(name)
            if self._repo.refs.get(_ROOT + new_name) is not None:
                raise RootExists(new_name)
            for taken in self.snapshots(new_name, of_any=True):
                raise SnapshotExists(new_name, taken)
            changes: dict[str, Ref | None] = {_ROOT + name: None}
            for snapshot, kept in self._repo.refs.list(_snapshot_ref(name, "")):
                changes[snapshot] = None
                changes[_snapshot_ref(new_name, snapshot.rpartition("/")[2])] = kept
            core = self._cores.get(name)
            if core is None:
                self._repo.refs.update({**changes, _ROOT + new_name: ref})
            else:
                with core.durability:
                    self._repo.refs.update({**changes, _ROOT + new_name: core.head.to_ref()})
                    core.save_head = self._saver(new_name)
                self._cores[new_name] = self._cores.pop(name)
                self._trees[new_name] = self._trees.pop(name)
            self._repo.commit()
        return self.stat(new_name)

    def set_quota(self, name: str, quota: int | None) -> RootStat:
        """Another quota in bytes, durably and at once; what is beyond it already stays."""
        with self.lock:
            core = self._core(name)
            with core.durability:
                head = replace(core.head, quota_bytes=quota)
                self._repo.refs.update({_ROOT + name: head.to_ref()})
                with core.lock:
                    core.head = head
            self._repo.commit()
        return self.stat(name)

    # ------------------------------------------------------------------------------ snapshots

    def snapshot(self, name: str, snapshot: str) -> SnapshotStat:
        """Keep the present state under a name, durably: everything acknowledged before the call.

        Raises RootNotFound, SnapshotExists, InvalidRootName.
        """
        check_name(snapshot)
        with self.lock:
            self._ref(name)
            key = _snapshot_ref(name, snapshot)
            if self._repo.refs.get(key) is not None:
                raise SnapshotExists(name, snapshot)
            core = self._core(name)
            with core.durability:
                flush(core)
                head = replace(core.head, created_ns=self._clock(), history=())
                self._repo.refs.update({key: head.to_ref()})
            self._repo.commit()
        return snapshot_stat(name, snapshot, head)

    def snapshots(self, name: str, *, of_any: bool = False) -> List[str]:
        """Names of a root's snapshots, sorted. Raises RootNotFound when there is neither a root
        nor a snapshot of it; with `of_any` the answer is then empty."""
        prefix = _snapshot_ref(name, "")
        names = [key.removeprefix(prefix) for key, _ in self._repo.refs.list(prefix)]
        if not names and not of_any:
            self._ref(name)
        return names

    def snapshot_stat(self, name: str, snapshot: str) -> SnapshotStat:
        """Facts about one snapshot. Raises SnapshotNotFound."""
        return snapshot_stat(name, snapshot, self._snapshot_head(name, snapshot))

    def drop_snapshot(self, name: str, snapshot: str) -> None:
        """Delete a snapshot, durably. Raises SnapshotNotFound."""
        with self.lock:
            self._snapshot_head(name, snapshot)
            self._repo.refs.update({_snapshot_ref(name, snapshot): None})
            self._repo.commit()

    def clone(
        self, source: str, snapshot: str | None, new_name: str, quota: int | None = None
    ) -> RootStat:
        """A new root with the content of a root or of its snapshot, durably and in O(1).

        Raises RootNotFound, SnapshotNotFound, RootExists.
        """
        check_name(new_name)
        with self.lock:
            if self._repo.refs.get(_ROOT + new_name) is not None:
                raise RootExists(new_name)
            head = self._flushed_head(source, snapshot)
            now = self._clock()
            clone = replace(
                head,
                root_id=self._free_root_id(),
                generation=0,
                journal_seq=0,
                created_ns=now,
                changed_ns=now,
                quota_bytes=quota,
                history=((now, head.cid),),
            )
            self._add(new_name, clone)
        return self.stat(new_name)

    def restore(self, name: str, snapshot: str) -> RootStat:
        """Set a root back to a snapshot, durably. What it held is lost, unless another one keeps
        it; open files of it become stale, and `tree(name)` gives a new tree."""
        with self.lock:
            kept = self._snapshot_head(name, snapshot)
            head = self._head(name)
            core = self._cores.get(name)
            seq = head.journal_seq if core is None else core.journal_seq
            self._retire(name)
            restored = replace(
                head.advanced(kept.cid, self._clock()),
                origin=kept.origin,
                generation=head.generation + 1,
                profile=kept.profile,
                dag_size_bytes=kept.dag_size_bytes,
                table=kept.table,
                # Numbers that were given since stay unused: a stale one must not meet a new file.
                totals=kept.totals._replace(
                    next_ino=max(kept.totals.next_ino, head.totals.next_ino)
                ),
                # Batches that the journal still has belong to what is given up.
                journal_seq=seq,
            )
            self._repo.refs.update({_ROOT + name: restored.to_ref()})
            discard(self._repo, head.root_id)
            self._repo.commit()
        return self.stat(name)

    # ---------------------------------------------------------------------------------- trees

    def tree(self, name: str) -> Tree:
        """The tree of a root; all callers share one. Raises RootNotFound, DataError."""
        with self.lock:
            self._core(name)
            return self._trees[name]

    def snapshot_tree(self, name: str, snapshot: str) -> Tree:
        """A read-only tree of a snapshot. Raises SnapshotNotFound."""
        head = self._snapshot_head(name, snapshot)
        return Tree(Core(self._repo, self._clock, head, None, self._cache))

    def cid_tree(self, cid: bytes) -> Tree:
        """A read-only tree of any UnixFS directory; O(1) is read. Raises NotARoot.

        Close it when it is no longer used: until then its blocks are safe from gc.
        """
        now = self._clock()
        head = foreign_head(self._repo, cid, now)
        with self.lock:
            self._open_cids += 1
            ref = f"{OPEN_REFS}cid/{self._open_cids}"
        self._repo.refs.update({ref: Ref(links=(cid,))})
        core = Core(self._repo, self._clock, head, None, self._cache)
        top = Top(os.geteuid(), os.getegid(), 0o555)
        link = FileLink(cid, head.dag_size_bytes, 0)
        core.state.restore(ROOT_INO, directory_record(link, top, now))
        return Tree(core, lambda: self._repo.refs.update({ref: None}))

    def diff(self, first: str, second: str) -> Iterator[diff.Difference]:
        """Paths that differ between two of: NAME, NAME@SNAP. Raises RootNotFound and the like.

        Lazy: what is compared are the states as of the call.
        """
        with self.lock:
            heads = [self._flushed_head(*_split(address)) for address in (first, second)]
        return diff.differences(self._repo, self._cache, *heads)

    def log(self, name: str) -> List[tuple[int, bytes]]:
        """Time in ns and CID of the states that were flushed, newest first; a bounded number.

        Their blocks may be gone. Raises RootNotFound.
        """
        with self.lock:
            core = self._cores.get(name)
            head = self._head(name) if core is None else core.head
        return [*reversed(head.history)]

    def statfs(self) -> StatFs:
        """Room in the whole store."""
        stats = self._repo.blocks.stats()
        free = 1 << 40 if stats.free_bytes is None else stats.free_bytes
        total = stats.capacity_bytes or stats.live_bytes + free
        return StatFs(total, free, stats.count + free // 4096, free // 4096, NAME_SIZE_MAX_BYTES)

    # ----------------------------------------------------------------------------- write-back

    def sync(self, name: str | None = None) -> List[tuple[str, bytes]]:
        """Everything durable and in the DAG; names and CIDs. Raises RootNotFound, NoSpace."""
        with self.lock:
            if name is not None:
                cores = [(name, self._core(name))]
            else:
                cores = [(stat.name, self._core(stat.name)) for stat in self.list()]
        for _, core in cores:
            flush(core)
        self._repo.commit()
        return [(name, core.head.cid) for name, core in cores]

    def flush_due(self, now_ns: int) -> None:
        """Flush roots that were idle for 5 s or dirty for 30 s: call it every second or so.

        A root that cannot be flushed is logged once and tried again; the others go on.
        """
        with self.lock:
            cores = list(self._cores.items())
        for name, core in cores:
            first = core.first_change_ns
            if first is None:
                continue
            if now_ns - core.last_change_ns < FLUSH_IDLE_NS and now_ns - first < FLUSH_AGE_NS:
                continue
            try:
                flush(core)
                self._complained.discard(name)
            except (TreeError, DataError, RepoError, IpldError) as error:
                if name not in self._complained:
                    self._complained.add(name)
                    _log.warning("root %s cannot be written back: %s", name, error)

    def close(self) -> None:
        """Flush everything, durably, and let go of it. Raises what a flush raises, at the end:
        what cannot be flushed goes to the journal if that can be written."""
        failure: Exception | None = None
        with self.lock:
            for core in self._cores.values():
                try:
                    flush(core)
                except (TreeError, DataError, RepoError, IpldError) as error:
                    failure = failure or error
                    with contextlib.suppress(TreeError, DataError, RepoError, IpldError):
                        commit(core)
                with core.durability, core.lock:
                    core.retire()
            self._cores.clear()
            self._trees.clear()
            self._repo.commit()
        if failure is not None:
            raise failure

    # ---------------------------------------------------------------------------------- parts

    def _recover(self, name: str, ref: Ref) -> None:
        """Open a root whose journal is not empty, so that nothing is only in the journal."""
        try:
            head = from_ref(name, ref)
            if next(self._repo.journal(head.root_id).replay(), None) is not None:
                self._open(name, head)
        except DataError as error:
            self._damaged[name] = error
            _log.error("root %s cannot be opened: %s", name, error)

    def _open(self, name: str, head: Head) -> Core:
        core = Core(self._repo, self._clock, head, self._saver(name), self._cache)
        if replay(core):
            try:
                flush(core)
            except (NoSpace, RepoError) as error:
                # Nothing is lost: it is in memory now, and still in the journal.
                _log.warning("root %s: changes before the restart wait for room: %s", name, error)
        elif core.journal_end is not None:
            self._repo.journal(head.root_id).trim(core.journal_end)
            core.journal_end = None
        self._cores[name] = core
        self._trees[name] = Tree(core)
        return core

    def _core(self, name: str) -> Core:
        if name in self._damaged:
            raise self._damaged[name]
        core = self._cores.get(name)
        return self._open(name, self._head(name)) if core is None else core

    def _retire(self, name: str) -> None:
        self._damaged.pop(name, None)
        self._trees.pop(name, None)
        core = self._cores.pop(name, None)
        if core is not None:
            with core.durability, core.lock:
                core.retire()

    def _saver(self, name: str) -> SaveHead:
        return lambda head: self._repo.refs.update({_ROOT + name: head.to_ref()})

    def _add(self, name: str, head: Head) -> None:
        # Before the head, in one log: batches of a dropped root with this number must not count.
        discard(self._repo, head.root_id)
        self._repo.refs.update({_ROOT + name: head.to_ref()})
        self._repo.commit()

    def _ref(self, name: str) -> Ref:
        ref = self._repo.refs.get(_ROOT + name)
        if ref is None:
            raise RootNotFound(name)
        return ref

    def _head(self, name: str) -> Head:
        return from_ref(name, self._ref(name))

    def _snapshot_head(self, name: str, snapshot: str) -> Head:
        ref = self._repo.refs.get(_snapshot_ref(name, snapshot))
        if ref is None:
            raise SnapshotNotFound(name, snapshot)
        return from_ref(f"{name}@{snapshot}", ref)

    def _flushed_head(self, name: str, snapshot: str | None) -> Head:
        if snapshot is not None:
            return self._snapshot_head(name, snapshot)
        core = self._core(name)
        flush(core)
        return core.head

    def _free_root_id(self) -> int:
        used = {_claimed_root_id(ref) for _, ref in self._repo.refs.list(_ROOT)}
        for root_id in range(1, ROOT_ID_MAX + 1):
            if root_id not in used:
                return root_id
        raise TooManyRoots(f"a store has {ROOT_ID_MAX} roots at most (drop one)")


def _claimed_root_id(ref: Ref) -> int:
    """The number in a record that may be damaged otherwise; 0, which no root has, if in vain."""
    root_id = ref.data.get("root_id")
    return root_id if type(root_id) is int and 0 < root_id <= ROOT_ID_MAX else 0


def _snapshot_ref(name: str, snapshot: str) -> str:
    return f"{_SNAPSHOT}{name}/{snapshot}"


def _split(address: str) -> tuple[str, str | None]:
    name, separator, snapshot = address.partition("@")
    return name, snapshot if separator else None
