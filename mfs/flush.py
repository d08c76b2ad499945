"""The one write-back path: from what changed in memory to a new head.

    capture     under the lock: everything changed is frozen, in microseconds per inode
    build       without the lock: leaves and file DAGs, then directories from the deepest up, then
                the table; reading and writing go on above the frozen layers
    publish     the ref, after all its blocks in the same log; then the journal is trimmed
    settle      under the lock: what was frozen is now the base

Work is O(changed x log n): only changed leaves, files, directories on the way to them and table
nodes are written, and a name whose child kept its CID is not touched.

A crash anywhere leaves the old head with its journal or the new head. When anything raises, the
frozen layers are put back: nothing is lost, the tree is as readable as before, and the next flush
starts from the same state.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from ipld import dirdag, filedag
from ipld.dirdag import Entry
from ipld.filedag import FileLink
from mfs import posix, records
from mfs.content import Content
from mfs.core import Core
from mfs.errors import NoSpace
from mfs.filebuild import FileBuilder, is_editable
from mfs.heads import Head
from mfs.node import CANONICAL, ROOT_INO, UNRESOLVED, Inode, InodeRecord
from mfs.state import Changes, Totals
from mfs.table import Table
from mfs.writer import BlockWriter
from repo.errors import StoreFull
from repo.leases import Lease

# Sizes of HAMT shards, so that a large directory is measured once and not with every removal.
_SHARD_SIZES = dirdag.SizeMemo()


class _File(NamedTuple):
    """A file to build: its frozen content and size."""

    ino: int
    view: Content
    size: int
    flags: int


class _Directory(NamedTuple):
    """A directory that may have to be written, as of the capture."""

    record: InodeRecord
    depth: int


@dataclass
class _Capture:
    """Everything a flush needs, so that it never looks at what goes on changing."""

    head: Head
    totals: Totals
    inodes: dict[int, InodeRecord | None]
    rows: list[dict[int, Changes]]
    files: list[_File] = field(default_factory=list)
    directories: dict[int, _Directory] = field(default_factory=dict)
    names: dict[int, dict[bytes, int | None]] = field(default_factory=lambda: defaultdict(dict))
    """Directory -> name -> inode that it stands for now, where the DAG may say something else."""


def flush(core: Core) -> bool:
    """Bring everything changed so far into the DAG; False when there was nothing.

    Durable with the next commit. Raises NoSpace, BlockUnavailable, BlockDamaged, StoreFailed.
    """
    with core.durability:
        with core.lock:
            if not core.is_dirty or core.is_gone or core.save_head is None:
                return False
            old_lease = core.lease
        try:
            with core.lock:
                capture = _capture(core)
            links, head = _build(core, capture)
            core.save_head(head)
        except BaseException as error:
            with core.lock:
                _thaw(core, old_lease)
            if isinstance(error, StoreFull):
                raise NoSpace from error
            raise
        if core.journal_end is not None:
            core.repo.journal(head.root_id).trim(core.journal_end)
            core.journal_end = None
        with core.lock:
            _settle(core, head, links)
        if old_lease is not None:
            old_lease.close()
        return True


# ------------------------------------------------------------------------------- capture


def _capture(core: Core) -> _Capture:
    """Freeze what changed. Microseconds per changed inode; reads nothing but table nodes."""
    state = core.state
    changed = [inode for inode in state.changed.values() if inode is not None]
    capture = _Capture(core.head, state.totals, {}, [])
    for inode in (*changed, *state.orphans.values()):
        if inode.is_changed_file:
            core.content(inode).freeze(inode.size)
    capture.inodes = state.freeze()
    capture.rows = [state.entries.freeze(), state.links.freeze()]
    for inode in (*changed, *state.orphans.values()):
        if inode.content is not None and inode.content.frozen is not None:
            view = inode.content.frozen_view()
            capture.files.append(_File(inode.ino, view, inode.size, inode.flags))
    _capture_names(core, capture, changed)
    core.first_change_ns = None
    # What changes from now on belongs to the next flush, and needs a lease that outlives this one.
    core.lease = core.repo.lease()
    return capture


def _capture_names(core: Core, capture: _Capture, changed: list[Inode]) -> None:
    """Which names of which directories may differ from the DAG, and all directories above."""
    for owner, changes in capture.rows[0].items():
        if capture.inodes.get(owner, True) is None:
            continue
        for name, value in changes.items():
            capture.names[owner][name] = None if value is None else records.decode_entry(value).ino
    for inode in changed:
        content = inode.content
        if content is not None and content.frozen is not None:
            for parent, name in core.names.names_of(inode):
                capture.names[parent][name] = inode.ino
        elif inode.is_directory and inode.link is None:
            _capture_directory(core, capture, inode.ino)
    for owner in capture.names:
        _capture_directory(core, capture, owner)


def _capture_directory(core: Core, capture: _Capture, ino: int) -> None:
    """Note a directory and those above it that are not noted yet."""
    path = []
    while ino not in capture.directories:
        record = core.state.inode(ino).to_record()
        path.append((ino, record))
        if ino == ROOT_INO:
            break
        ino = record.parent
    depth = capture.directories[ino].depth if ino in capture.directories else -1
    for ino, record in reversed(path):
        depth += 1
        capture.directories[ino] = _Directory(record, depth)


# --------------------------------------------------------------------------------- build


def _build(core: Core, capture: _Capture) -> tuple[dict[int, FileLink], Head]:
    """Write all blocks; returns the new DAGs by inode, and the head that reaches them."""
    writer = BlockWriter(core.repo)
    links: dict[int, FileLink] = {}
    _build_files(core, capture, writer, links)
    _build_symlinks(core, capture, writer, links)
    _Directories(core, capture, writer, links).build()
    root = links.get(ROOT_INO)
    table = Table(capture.head.table, writer.get, writer.put, core.cache)
    new_table = table.apply(_table_changes(capture, links))
    writer.flush()
    head = capture.head.advanced(
        capture.head.cid if root is None else root.cid,
        core.clock(),
        dag_size_bytes=capture.head.dag_size_bytes if root is None else root.tsize,
        table=new_table,
        totals=capture.totals,
        journal_seq=core.journal_seq,
    )
    return links, head


def _build_files(
    core: Core, capture: _Capture, writer: BlockWriter, links: dict[int, FileLink]
) -> None:
    builder = FileBuilder(core.profile, writer.get, writer.put)
    for ino, view, size, flags in capture.files:
        base = view.base
        editable = base is not None and (
            core.profile.layout == "balanced"
            and (bool(flags & CANONICAL) or is_editable(base, core.profile, writer.get))
        )
        links[ino] = builder.build(view, size, editable=editable)


def _build_symlinks(
    core: Core, capture: _Capture, writer: BlockWriter, links: dict[int, FileLink]
) -> None:
    for ino, record in capture.inodes.items():
        if record is not None and record.target and record.link is None:
            links[ino] = filedag.symlink(record.target, core.profile, writer.put)


class _Directories:
    """Writes changed directories, each after all that is below it."""

    def __init__(
        self, core: Core, capture: _Capture, writer: BlockWriter, links: dict[int, FileLink]
    ) -> None:
        self._profile = core.profile
        self._capture = capture
        self._writer = writer
        self._links = links

    def build(self) -> None:
        """Fills in `links` of directories."""
        names, directories = self._capture.names, self._capture.directories
        for ino in sorted(directories, key=lambda ino: -directories[ino].depth):
            record = directories[ino].record
            if not names.get(ino) and record.link is not None:
                continue
            entries = {name: self._entry(name, child) for name, child in names[ino].items()}
            link = self._write(record, entries)
            if record.link is None or (link.cid, link.tsize) != record.link[:2]:
                self._links[ino] = FileLink(link.cid, link.tsize, 0)
                if ino != ROOT_INO:
                    names[record.parent][record.name] = ino

    def _entry(self, name: bytes, child: int | None) -> Entry | None:
        """What the DAG is to say about a name; special files are not in it."""
        if child is None:
            return None
        link = self._links.get(child)
        if link is None:
            record = self._capture.inodes.get(child)
            if record is None:
                record = self._capture.directories[child].record
            if posix.is_special(record.mode) and not record.flags & UNRESOLVED:
                return None
            link = record.link
            assert link is not None, "files and directories without a DAG were built before"
        return Entry(name, link.cid, link.tsize)

    def _write(self, record: InodeRecord, changes: dict[bytes, Entry | None]) -> dirdag.DirLink:
        profile, get, put = self._profile, self._writer.get, self._writer.put
        if record.link is None:
            present = [entry for entry in changes.values() if entry is not None]
            return dirdag.build(present, profile, put)
        cid = record.link.cid
        if not record.flags & CANONICAL:
            changes = {
                name: entry
                for name, entry in changes.items()
                if dirdag.lookup(cid, name, get) != entry
            }
            if not changes:
                return dirdag.DirLink(cid, record.link.tsize)
            # Somebody else's form, or attributes in the DAG: adopted with the first real change.
            content = {entry.name: entry for entry in dirdag.entries(cid, get)}
            for name, entry in changes.items():
                if entry is None:
                    content.pop(name, None)
                else:
                    content[name] = entry
            return dirdag.build(content.values(), profile, put)
        return dirdag.edit(cid, changes, profile, get, put, memo=_SHARD_SIZES)


def _table_changes(capture: _Capture, links: dict[int, FileLink]) -> Changes:
    changes: Changes = {}
    for prefix, rows in zip((records.ENTRIES, records.LINKS), capture.rows, strict=True):
        for owner, of_owner in rows.items():
            head = prefix + records.number(owner)
            for suffix, value in of_owner.items():
                changes[head + suffix] = value
    for ino, record in capture.inodes.items():
        if record is None:
            changes[records.inode_key(ino)] = None
        elif ino not in links:
            changes[records.inode_key(ino)] = records.encode_inode(record)
    for ino, link in links.items():
        known = capture.inodes.get(ino)
        if known is None and ino in capture.directories:
            known = capture.directories[ino].record
        # An open file without a name has a DAG for its bytes and no row.
        if known is not None:
            built = known._replace(link=link, flags=known.flags | CANONICAL)
            changes[records.inode_key(ino)] = records.encode_inode(built)
    return changes


# ------------------------------------------------------------------------ settle or thaw


def _settle(core: Core, head: Head, links: dict[int, FileLink]) -> None:
    """The head is current: what was frozen is its content now."""
    state = core.state
    state.settle(state.table.at(head.table))
    core.head = head
    for ino, link in links.items():
        inode = state.cached(ino)
        if inode is None:
            continue
        inode.link = link
        inode.flags |= CANONICAL
        content = inode.content
        if content is not None and content.frozen is not None:
            core.memory_bytes -= content.frozen.memory_bytes
            content.settle(link)
            if not inode.opens and not content.is_changed and inode.size == link.size:
                core.drop_content(inode)
        if inode.nlink == 0 and inode.opens:
            core.keep_content(inode)
    state.shrink()
    if not core.is_dirty:
        core.close_lease()


def _thaw(core: Core, old_lease: Lease | None) -> None:
    state = core.state
    for ino in {*state.frozen, *state.changed, *state.orphans}:
        inode = state.cached(ino)
        if inode is not None and inode.content is not None:
            before = inode.content.memory_bytes
            inode.content.thaw()
            core.memory_bytes += inode.content.memory_bytes - before
    state.thaw()
    core.close_lease()
    core.lease = old_lease
    core.mark_all_fresh()
    if core.first_change_ns is None:
        core.first_change_ns = core.clock()
