"""What the parts of one tree share: its state, its locks, and what is not yet in the DAG.

Locks, in the order in which they are taken:
1. `durability`: one flush or one journal batch at a time. Held while blocks are written.
2. `lock`: everything in memory. Held for microseconds, never while a file's bytes are read,
   hashed or written, nor while the device is flushed.
Below both come the locks of `repo` (leases, then the store).

A lease is open while anything is unflushed: streamed leaves and the blocks of a running flush are
reached by no ref yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import RLock

from ipld.profile import Profile
from mfs.content import Content
from mfs.errors import ReadOnlyTree, StaleInode
from mfs.heads import Head
from mfs.lazy import Lazy
from mfs.namespace import Clock, Namespace
from mfs.node import Inode
from mfs.state import State
from mfs.table import CACHE_SIZE_BYTES, NodeCache, Table
from repo.leases import Lease
from repo.refs import Ref
from repo.service import Repo

OPEN_REFS = "meta/open/"
"""Refs below this name hold what is open and in no head; they mean nothing after a restart."""

SaveHead = Callable[[Head], None]
"""Makes a head the current one of its root, after all blocks that were put before."""


class Core:
    """The inside of a `Tree`. `save_head` is None for a tree that cannot be written."""

    def __init__(
        self,
        repo: Repo,
        clock: Clock,
        head: Head,
        save_head: SaveHead | None,
        cache: NodeCache | None = None,
    ) -> None:
        self.repo = repo
        self.clock = clock
        self.save_head = save_head
        self.lock = RLock()
        self.durability = RLock()
        self.cache = NodeCache(CACHE_SIZE_BYTES) if cache is None else cache
        self.load(head)

    def load(self, head: Head) -> None:
        """Begin anew from a head; everything in memory is forgotten. Needs both locks."""
        self.head = head
        self.profile: Profile = head.profile
        table = Table(head.table, self.repo.get, self.repo.put, self.cache)
        self.state = State(table, head.totals)
        self.lazy = Lazy(self.state, self.repo)
        self.names = Namespace(self.state, self.lazy, self.clock)
        self.memory_bytes = 0
        """File bytes that only memory has, with their overhead."""
        self.room_bytes = 0
        """Bytes that may be written before the store is asked for room again."""
        self.first_change_ns: int | None = None
        self.last_change_ns = 0
        self.lease: Lease | None = None
        self.journal_seq = head.journal_seq
        self.journal_end: int | None = None
        """Position of the last record in the journal."""
        self.is_gone = False

    @property
    def is_dirty(self) -> bool:
        """Whether a flush has anything to do."""
        return self.first_change_ns is not None

    def check_writable(self) -> None:
        """Raises ReadOnlyTree, or StaleInode when the root was dropped."""
        if self.save_head is None:
            raise ReadOnlyTree
        if self.is_gone:
            raise StaleInode(0)

    def note_change(self) -> int:
        """Something changes now; returns the time. Needs `lock`."""
        now = self.clock()
        self.last_change_ns = now
        if self.first_change_ns is None:
            self.first_change_ns = now
            if self.lease is None:
                self.lease = self.repo.lease()
        return now

    def content(self, inode: Inode) -> Content:
        """The content of a file. Needs `lock`."""
        content = inode.content
        if content is None:
            content = Content.of(inode.link, self.profile.chunk_size_bytes, self.repo)
            inode.content = content
        return content

    def drop_content(self, inode: Inode) -> None:
        """Forget what is unflushed of a file that is clean or unreachable. Needs `lock`."""
        if inode.content is not None:
            self.memory_bytes -= inode.content.memory_bytes
            inode.content = None
        if inode.has_ref:
            self.repo.refs.update({self._open_ref(inode): None})
            inode.has_ref = False

    def keep_content(self, inode: Inode) -> None:
        """Keep the DAG of an open file without a name: the next head will not. Needs `lock`.

        A ref and not a lease: a file may stay open for weeks, and a lease holds up all of gc.
        """
        if inode.link is not None:
            self.repo.refs.update({self._open_ref(inode): Ref(links=(inode.link.cid,))})
            inode.has_ref = True

    def _open_ref(self, inode: Inode) -> str:
        return f"{OPEN_REFS}{self.head.root_id}/{inode.ino}"

    def retire(self) -> None:
        """The root was dropped or replaced: every inode is stale. Needs both locks."""
        self.close_lease()
        self.load(replace(self.head, table=None))
        self.is_gone = True

    def drop_clean_content(self, inode: Inode) -> None:
        """Forget the content of a closed file if its DAG says the same. Needs `lock`."""
        if not inode.is_changed_file:
            self.drop_content(inode)

    def mark_all_fresh(self) -> None:
        """The next batch has to have everything unflushed, whatever was in those before it.

        After a batch or a flush that failed. Needs `lock`.
        """
        self.state.mark_all_fresh()
        for inode in self.state.changed.values():
            if inode is not None and inode.content is not None:
                inode.content.active.mark_all_fresh()

    def close_lease(self) -> None:
        """Nothing is unflushed. Needs `lock`."""
        if self.lease is not None:
            self.lease.close()
            self.lease = None
