"""How a root begins: empty, or with the content of a UnixFS directory that is not read yet."""

from __future__ import annotations

import os
from dataclasses import replace

from ipld import cid as cids
from ipld import dirdag, filedag
from ipld.errors import IpldError
from ipld.filedag import FileLink
from ipld.profile import UNIXFS_V1_2025, Profile
from mfs import records
from mfs.errors import NotARoot
from mfs.heads import Head
from mfs.lazy import directory_record
from mfs.node import CANONICAL, ROOT_INO, InodeRecord, Top
from mfs.state import Totals
from mfs.table import NodeCache, Table
from mfs.writer import BlockWriter
from repo.service import Repo


def empty_head(
    repo: Repo, cache: NodeCache, root_id: int, profile: Profile, top: Top, now_ns: int
) -> Head:
    """The head of an empty root; its blocks are stored. Raises StoreFull."""
    writer = BlockWriter(repo)
    cid, tsize = dirdag.empty(profile, writer.put)
    record = directory_record(FileLink(cid, tsize, 0), top, now_ns)._replace(flags=CANONICAL)
    table = _first_table(writer, cache, record)
    return replace(_head(root_id, profile, FileLink(cid, tsize, 0), now_ns), table=table)


def imported_head(
    repo: Repo, cache: NodeCache, root_id: int, profile: Profile, cid: bytes, top: Top, now_ns: int
) -> Head:
    """The head of a root with the content of a directory. Raises NotARoot, StoreFull."""
    writer = BlockWriter(repo)
    link = directory_link(repo, cid)
    table = _first_table(writer, cache, directory_record(link, top, now_ns))
    head = _head(root_id, profile, link, now_ns)
    # What it holds is not counted but taken from its DAG.
    totals = head.totals._replace(used_bytes=link.tsize)
    return replace(head, table=table, totals=totals)


def foreign_head(repo: Repo, cid: bytes, now_ns: int) -> Head:
    """The head of a tree that is only looked at; nothing is stored. Raises NotARoot."""
    return _head(0, UNIXFS_V1_2025, directory_link(repo, cid), now_ns)


def directory_link(repo: Repo, cid: bytes) -> FileLink:
    """A UnixFS directory as a link. Raises NotARoot, BlockUnavailable."""
    try:
        if dirdag.node_kind(cid, repo.get) == "directory":
            return filedag.describe(cid, repo.get)
    except IpldError as error:
        raise NotARoot(f"{cids.to_text(cid)}: {error}") from error
    raise NotARoot(f"{cids.to_text(cid)}: not a UnixFS directory (wrap the file in one)")


def _first_table(writer: BlockWriter, cache: NodeCache, record: InodeRecord) -> bytes | None:
    rows = Table(None, writer.get, writer.put, cache)
    table = rows.apply({records.inode_key(ROOT_INO): records.encode_inode(record)})
    writer.flush()
    return table


def _head(root_id: int, profile: Profile, link: FileLink, now_ns: int) -> Head:
    return Head(
        root_id=root_id,
        origin=os.urandom(16),
        generation=0,
        profile=profile,
        cid=link.cid,
        dag_size_bytes=link.tsize,
        table=None,
        totals=Totals(ROOT_INO + 1, 1, 0),
        journal_seq=0,
        created_ns=now_ns,
        changed_ns=now_ns,
        quota_bytes=None,
        history=((now_ns, link.cid),),
    )
