"""What a command may ask of a node, whether the store is opened here or owned by a daemon.

`NodeApi` has two implementations: `node.Node` (this process owns the store) and
`control.RemoteNode` (a daemon does). One conformance suite runs on both.

All results are named tuples, which are quick to define (a dataclass costs every command a
millisecond), with the field names of the messages in `proto/ipfs_mfs/node/v1/node.proto` and of
`--json`. CIDs are text here (the edge), names and paths
of entries are bytes, sizes are bytes, times are seconds or nanoseconds as the name says.
Iterators are lazy and hold a lease on what they read; close or exhaust them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from ipld.block import Block


class MountInfo(NamedTuple):
    """A mount that is up. `created` is False when it was up before the call."""

    mountpoint: str
    options: str
    root: str
    cid: str
    created: bool


class NodeInfo(NamedTuple):
    """Who owns the store. `daemon` is False when it is the asking command itself."""

    version: str
    pid: int
    store: str
    daemon: bool
    log: str
    mounts: tuple[MountInfo, ...]


class RootCid(NamedTuple):
    name: str
    cid: str


class RootInfo(NamedTuple):
    """A root as of now; `cid` as of its last flush, which `is_dirty` says is not the latest.
    `entries` counts files, directories, links and special files, the top included."""

    name: str
    cid: str
    profile: str
    size_bytes: int
    dag_size_bytes: int
    entries: int
    snapshots: int
    quota_bytes: int | None
    created_ns: int
    changed_ns: int
    is_dirty: bool
    dirty_bytes: int


class SnapshotInfo(NamedTuple):
    root: str
    name: str
    cid: str
    created_ns: int


class HistoryEntry(NamedTuple):
    changed_ns: int
    cid: str


class Difference(NamedTuple):
    """`change` is added, removed or changed."""

    change: str
    path: bytes


class EntryInfo(NamedTuple):
    """A directory entry; `size_bytes` is the file's content, or None for other kinds."""

    name: bytes
    cid: str
    kind: str
    size_bytes: int | None


class ContentInfo(NamedTuple):
    """What an address names. `dag_size_bytes` counts every block below it as often as it is
    linked, as Kubo's CumulativeSize does."""

    address: str
    cid: str
    kind: str
    size_bytes: int | None
    dag_size_bytes: int
    links: int
    mode: int | None
    mtime_ns: int | None


class TreeItem(NamedTuple):
    """One step of a walk for `get`: an entry (`path` relative to the address, b'' for itself), or,
    with `data`, the next bytes of the file entry that came last."""

    path: bytes
    kind: str
    size_bytes: int
    mode: int | None
    mtime_ns: int | None
    target: bytes
    data: bytes | None


class NewRoot(NamedTuple):
    """A root to make from a CID."""

    name: str
    cid: str


class IngestReport(NamedTuple):
    """What an `add` or `import` wrote: blocks that were not there before."""

    blocks_new: int


class PinInfo(NamedTuple):
    cid: str
    recursive: bool
    name: str


class GcSummary(NamedTuple):
    """With `dry_run` nothing was removed and the numbers say what would be. `missing` lists the
    first of the blocks that are referred to and not here; `bytes_reclaimed` is the space that can
    be written again already, before compaction."""

    dry_run: bool
    blocks_removed: int
    bytes_removed: int
    blocks_kept: int
    bytes_reclaimed: int
    blocks_missing: int
    missing: tuple[str, ...]


class Finding(NamedTuple):
    """One thing that `check` or `scrub` found. `where` is a root, snapshot or pin with a path if
    known, else what is there or the place on the device. `severity` is damaged, lost (a repair
    dropped it), repaired, garbage or note.
    """

    severity: str
    where: str
    cid: str
    problem: str


def is_damaged(findings: "Iterable[Finding]") -> bool:
    """Whether anything that somebody may want is damaged or gone."""
    return any(finding.severity in ("damaged", "lost") for finding in findings)


class RepairSummary(NamedTuple):
    """All zero when nothing was repaired."""

    records_kept: int = 0
    records_lost: int = 0
    segments_freed: int = 0
    segments_retired: int = 0


class CheckSummary(NamedTuple):
    blocks: int
    bytes_read: int
    roots: int
    findings: tuple[Finding, ...]
    repair: RepairSummary

    @property
    def damaged(self) -> bool:
        return is_damaged(self.findings)


class ScrubSummary(NamedTuple):
    """`resumed` says that it went on where the last one was ended."""

    resumed: bool
    segments: int
    records: int
    bytes_read: int
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> bool:
        return is_damaged(self.findings)


class DumpItem(NamedTuple):
    """One structure of a store. `damaged` says what is wrong with it, `fields` is JSON."""

    kind: str
    device_offset: int
    damaged: str
    fields: str


class CompactSummary(NamedTuple):
    segments_freed: int
    bytes_moved: int
    bytes_freed: int


class ResizeSummary(NamedTuple):
    """What the store has now. `file_fits` is False when its plain file is still longer, because
    somebody reads what lies near the end; the next resize cuts it."""

    store: str
    size_bytes: int
    segments_before: int
    segments: int
    bytes_moved: int
    free_bytes: int
    file_fits: bool


class StatsSummary(NamedTuple):
    """Exact numbers. `used_bytes` counts segments in use, `live_bytes` what is reachable in them
    by key, `free_bytes` what can still be written after compaction."""

    store: str
    device_bytes: int
    used_bytes: int
    live_bytes: int
    dead_bytes: int
    free_bytes: int
    blocks: int
    segments: int
    segments_free: int
    roots: int
    snapshots: int
    pins: int
    daemon_pid: int
    mounts: tuple[MountInfo, ...]


class Progress(NamedTuple):
    """How far long work is; `total` is 0 while it is unknown."""

    done: int
    total: int


ProgressCallback = Callable[[Progress], None]


class Ingest(Protocol):
    """Blocks on their way in. Everything given is safe from gc until the end of the `with`.
    Leaving it without `finish` keeps nothing alive: gc takes the blocks."""

    def __enter__(self) -> "Ingest": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def put_many(self, blocks: "Iterable[Block]") -> int:
        """How many were new; 0 where that is only known at the end. Raises StoreFull."""

    def finish(self, pins: Sequence[str], root: NewRoot | None = None) -> IngestReport:
        """Pins these CIDs recursively, makes the root, and returns when all of it is durable.
        Raises BlockUnavailable when a DAG is not complete, and then has named nothing."""


class NodeApi(Protocol):
    """Raises the errors of all layers; those of a daemon arrive as the same classes."""

    def close(self) -> None: ...
    def info(self) -> NodeInfo: ...
    def mount(self, mountpoint: str, options: str) -> MountInfo: ...
    def umount(self, mountpoint: str) -> None: ...
    def sync(self, root: str | None) -> list[RootCid]: ...

    def root_create(
        self, name: str, profile: str | None, quota_bytes: int | None, cid: str | None
    ) -> RootInfo: ...
    def root_list(self) -> list[RootInfo]: ...
    def root_stat(self, name: str) -> RootInfo: ...
    def root_drop(self, name: str, snapshot: str | None) -> None: ...
    def root_rename(self, name: str, new_name: str) -> RootInfo: ...
    def root_snapshot(self, name: str, snapshot: str) -> SnapshotInfo: ...
    def root_snapshots(self, name: str) -> list[SnapshotInfo]: ...
    def root_clone(self, name: str, snapshot: str | None, new_name: str) -> RootInfo: ...
    def root_restore(self, name: str, snapshot: str) -> RootInfo: ...
    def root_diff(self, first: str, second: str) -> Iterator[Difference]: ...
    def root_log(self, name: str) -> list[HistoryEntry]: ...

    def ingest(self) -> Ingest: ...
    def stat(self, address: str) -> ContentInfo: ...
    def ls(self, address: str) -> Iterator[EntryInfo]: ...
    def cat(self, address: str, offset: int, length: int | None) -> Iterator[bytes]: ...
    def tree(self, address: str) -> Iterator[TreeItem]: ...
    def export(self, address: str, since: str | None) -> Iterator[bytes]: ...

    def pin_add(self, address: str, recursive: bool, name: str) -> PinInfo: ...
    def pin_rm(self, address: str) -> PinInfo: ...
    def pin_ls(self) -> list[PinInfo]: ...
    def gc(self, dry_run: bool, progress: ProgressCallback) -> GcSummary: ...
    def check(self, progress: ProgressCallback, repair: bool = False) -> CheckSummary: ...
    def scrub(
        self, rate_bytes_s: int | None, restart: bool, progress: ProgressCallback
    ) -> ScrubSummary: ...
    def dump(self, what: str, argument: str) -> Iterator[DumpItem]: ...
    def compact(self, progress: ProgressCallback) -> CompactSummary: ...
    def resize(self, size_bytes: int | None, progress: ProgressCallback) -> ResizeSummary: ...
    def stats(self) -> StatsSummary: ...


class CareApi(Protocol):
    """The part of NodeApi that also works on a store that is too damaged for the rest of it."""

    def close(self) -> None: ...
    def check(self, progress: ProgressCallback, repair: bool = False) -> CheckSummary: ...
    def scrub(
        self, rate_bytes_s: int | None, restart: bool, progress: ProgressCallback
    ) -> ScrubSummary: ...
    def dump(self, what: str, argument: str) -> Iterator[DumpItem]: ...
