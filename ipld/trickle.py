"""The trickle layout: a file DAG whose first bytes are near its root, made for streaming.

A node of depth d holds up to max_file_links leaves, then four subtrees of depth 1, four of depth 2,
up to d - 1; the root has no limit of depth. Even a single leaf gets a root above it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ipld.filenode import FileLink, make_node
from ipld.nodes import Put
from ipld.profile import Profile
from ipld.unixfs import Attributes

_SUBTREES_PER_DEPTH = 4


@dataclass
class _OpenNode:
    depth: int | None
    """How deep this node may grow; None for the root."""
    children: list[FileLink] = field(default_factory=list)
    leaf_count: int = 0
    subtree_count: int = 0


class TrickleTree:
    """Leaves in order become one root; memory is bounded by the open nodes, one for each depth."""

    def __init__(self, profile: Profile, put: Put) -> None:
        self._profile, self._put = profile, put
        self._open = [_OpenNode(None)]

    def add(self, leaf: FileLink) -> None:
        """The next leaf."""
        while True:
            node = self._open[-1]
            if node.leaf_count < self._profile.max_file_links:
                node.children.append(leaf)
                node.leaf_count += 1
                return
            subtree_depth = 1 + node.subtree_count // _SUBTREES_PER_DEPTH
            if node.depth is None or subtree_depth < node.depth:
                self._open.append(_OpenNode(subtree_depth))
            else:
                self._close()

    def _close(self) -> None:
        node = self._open.pop()
        parent = self._open[-1]
        parent.children.append(make_node(node.children, self._profile, self._put))
        parent.subtree_count += 1

    def finish(self, attributes: Attributes | None) -> FileLink:
        """Close every open node and write the root."""
        while len(self._open) > 1:
            self._close()
        return make_node(self._open[0].children, self._profile, self._put, attributes)
