"""The file system as a transport sees it: one handler is one call into a tree.

Synchronous and thread-safe. Inodes, names and answers are the kernel's; a `Stat` returned here is
ready to be shown. Errors are those of the layers below and of `fusefs.errors`; `fusefs.errno`
turns them into numbers.

What is done here and nowhere below, because it concerns the mount and not the tree:
- finding the tree behind an inode (`views`), and refusing what would cross two of them;
- what an open file may do, O_TRUNC, O_SYNC and the `sync=` policy;
- set-user-ID and set-group-ID, which the kernel leaves to us (FUSE_HANDLE_KILLPRIV);
- the facts `ipfs.*`, read-only attributes that are never listed, so that `cp -a` and `rsync -X`
  do not try to copy them.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from fusefs.attrs import INO_BITS, INO_MASK, TOP_INODE, TREE_TOP_INO
from fusefs.errors import (
    BadHandle,
    CrossesTrees,
    InvalidRequest,
    NoSuchName,
    OperationNotPermitted,
    ReadOnlyView,
    StaleInode,
)
from fusefs.facts import FACTS_PREFIX, Facts
from fusefs.handles import DirectoryHandle, FileHandle, Handles
from fusefs.options import MountOptions
from fusefs.views import SNAPSHOTS_NAME, VIRTUAL_INDEX, Branch, Views
from mfs.errors import FileExists, NoSuchEntry
from mfs.node import Stat
from mfs.roots import Roots
from mfs.tree import StatFs

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
SET_ID_BITS = modes.S_ISUID | modes.S_ISGID
