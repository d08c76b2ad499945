from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = ("version", "pid", "store", "daemon", "log", "mounts")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    DAEMON_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    MOUNTS_FIELD_NUMBER: _ClassVar[int]
    version: str
    pid: int
    store: str
    daemon: bool
    log: str
    mounts: _containers.RepeatedCompositeFieldContainer[MountInfo]
    def __init__(self, version: _Optional[str] = ..., pid: _Optional[int] = ..., store: _Optional[str] = ..., daemon: _Optional[bool] = ..., log: _Optional[str] = ..., mounts: _Optional[_Iterable[_Union[MountInfo, _Mapping]]] = ...) -> None: ...

class MountRequest(_message.Message):
    __slots__ = ("mountpoint", "options")
    MOUNTPOINT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    mountpoint: str
    options: str
    def __init__(self, mountpoint: _Optional[str] = ..., options: _Optional[str] = ...) -> None: ...

class MountInfo(_message.Message):
    __slots__ = ("mountpoint", "options", "root", "cid", "created")
    MOUNTPOINT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    mountpoint: str
    options: str
    root: str
    cid: str
    created: bool
    def __init__(self, mountpoint: _Optional[str] = ..., options: _Optional[str] = ..., root: _Optional[str] = ..., cid: _Optional[str] = ..., created: _Optional[bool] = ...) -> None: ...

class UmountRequest(_message.Message):
    __slots__ = ("mountpoint",)
    MOUNTPOINT_FIELD_NUMBER: _ClassVar[int]
    mountpoint: str
    def __init__(self, mountpoint: _Optional[str] = ...) -> None: ...

class SyncRequest(_message.Message):
    __slots__ = ("root",)
    ROOT_FIELD_NUMBER: _ClassVar[int]
    root: str
    def __init__(self, root: _Optional[str] = ...) -> None: ...

class RootCid(_message.Message):
    __slots__ = ("name", "cid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    name: str
    cid: str
    def __init__(self, name: _Optional[str] = ..., cid: _Optional[str] = ...) -> None: ...

class RootCreateRequest(_message.Message):
    __slots__ = ("name", "profile", "quota_bytes", "cid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    name: str
    profile: str
    quota_bytes: int
    cid: str
    def __init__(self, name: _Optional[str] = ..., profile: _Optional[str] = ..., quota_bytes: _Optional[int] = ..., cid: _Optional[str] = ...) -> None: ...

class RootListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RootStatRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RootDropRequest(_message.Message):
    __slots__ = ("name", "snapshot")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    name: str
    snapshot: str
    def __init__(self, name: _Optional[str] = ..., snapshot: _Optional[str] = ...) -> None: ...

class RootRenameRequest(_message.Message):
    __slots__ = ("name", "new_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    new_name: str
    def __init__(self, name: _Optional[str] = ..., new_name: _Optional[str] = ...) -> None: ...

class RootSnapshotRequest(_message.Message):
    __slots__ = ("name", "snapshot")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    name: str
    snapshot: str
    def __init__(self, name: _Optional[str] = ..., snapshot: _Optional[str] = ...) -> None: ...

class RootSnapshotsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RootCloneRequest(_message.Message):
    __slots__ = ("name", "snapshot", "new_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    snapshot: str
    new_name: str
    def __init__(self, name: _Optional[str] = ..., snapshot: _Optional[str] = ..., new_name: _Optional[str] = ...) -> None: ...

class RootRestoreRequest(_message.Message):
    __slots__ = ("name", "snapshot")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    name: str
    snapshot: str
    def __init__(self, name: _Optional[str] = ..., snapshot: _Optional[str] = ...) -> None: ...

class RootDiffRequest(_message.Message):
    __slots__ = ("first", "second")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    first: str
    second: str
    def __init__(self, first: _Optional[str] = ..., second: _Optional[str] = ...) -> None: ...

class RootLogRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RootInfo(_message.Message):
    __slots__ = ("name", "cid", "profile", "size_bytes", "dag_size_bytes", "entries", "snapshots", "quota_bytes", "created_ns", "changed_ns", "is_dirty", "dirty_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DAG_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_NS_FIELD_NUMBER: _ClassVar[int]
    IS_DIRTY_FIELD_NUMBER: _ClassVar[int]
    DIRTY_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    cid: str
    profile: str
    size_bytes: int
    dag_size_bytes: int
    entries: int
    snapshots: int
    quota_bytes: int
    created_ns: int
    changed_ns: int
    is_dirty: bool
    dirty_bytes: int
    def __init__(self, name: _Optional[str] = ..., cid: _Optional[str] = ..., profile: _Optional[str] = ..., size_bytes: _Optional[int] = ..., dag_size_bytes: _Optional[int] = ..., entries: _Optional[int] = ..., snapshots: _Optional[int] = ..., quota_bytes: _Optional[int] = ..., created_ns: _Optional[int] = ..., changed_ns: _Optional[int] = ..., is_dirty: _Optional[bool] = ..., dirty_bytes: _Optional[int] = ...) -> None: ...

class SnapshotInfo(_message.Message):
    __slots__ = ("root", "name", "cid", "created_ns")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    root: str
    name: str
    cid: str
    created_ns: int
    def __init__(self, root: _Optional[str] = ..., name: _Optional[str] = ..., cid: _Optional[str] = ..., created_ns: _Optional[int] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("change", "path")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    change: str
    path: bytes
    def __init__(self, change: _Optional[str] = ..., path: _Optional[bytes] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("changed_ns", "cid")
    CHANGED_NS_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    changed_ns: int
    cid: str
    def __init__(self, changed_ns: _Optional[int] = ..., cid: _Optional[str] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("cid", "data")
    CID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    cid: bytes
    data: bytes
    def __init__(self, cid: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class NewRoot(_message.Message):
    __slots__ = ("name", "cid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    name: str
    cid: str
    def __init__(self, name: _Optional[str] = ..., cid: _Optional[str] = ...) -> None: ...

class IngestFinish(_message.Message):
    __slots__ = ("pins", "root")
    PINS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    pins: _containers.RepeatedScalarFieldContainer[str]
    root: NewRoot
    def __init__(self, pins: _Optional[_Iterable[str]] = ..., root: _Optional[_Union[NewRoot, _Mapping]] = ...) -> None: ...

class IngestRequest(_message.Message):
    __slots__ = ("blocks", "finish")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    finish: IngestFinish
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., finish: _Optional[_Union[IngestFinish, _Mapping]] = ...) -> None: ...

class IngestReport(_message.Message):
    __slots__ = ("blocks_new",)
    BLOCKS_NEW_FIELD_NUMBER: _ClassVar[int]
    blocks_new: int
    def __init__(self, blocks_new: _Optional[int] = ...) -> None: ...

class StatRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class ContentInfo(_message.Message):
    __slots__ = ("address", "cid", "kind", "size_bytes", "dag_size_bytes", "links", "mode", "mtime_ns")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DAG_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    address: str
    cid: str
    kind: str
    size_bytes: int
    dag_size_bytes: int
    links: int
    mode: int
    mtime_ns: int
    def __init__(self, address: _Optional[str] = ..., cid: _Optional[str] = ..., kind: _Optional[str] = ..., size_bytes: _Optional[int] = ..., dag_size_bytes: _Optional[int] = ..., links: _Optional[int] = ..., mode: _Optional[int] = ..., mtime_ns: _Optional[int] = ...) -> None: ...

class LsRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class EntryInfo(_message.Message):
    __slots__ = ("name", "cid", "kind", "size_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    cid: str
    kind: str
    size_bytes: int
    def __init__(self, name: _Optional[bytes] = ..., cid: _Optional[str] = ..., kind: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class CatRequest(_message.Message):
    __slots__ = ("address", "offset", "length")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    address: str
    offset: int
    length: int
    def __init__(self, address: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class TreeRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class TreeItem(_message.Message):
    __slots__ = ("path", "kind", "size_bytes", "mode", "mtime_ns", "target", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: bytes
    kind: str
    size_bytes: int
    mode: int
    mtime_ns: int
    target: bytes
    data: bytes
    def __init__(self, path: _Optional[bytes] = ..., kind: _Optional[str] = ..., size_bytes: _Optional[int] = ..., mode: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., target: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("address", "since")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    address: str
    since: str
    def __init__(self, address: _Optional[str] = ..., since: _Optional[str] = ...) -> None: ...

class PinAddRequest(_message.Message):
    __slots__ = ("address", "recursive", "name")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    address: str
    recursive: bool
    name: str
    def __init__(self, address: _Optional[str] = ..., recursive: _Optional[bool] = ..., name: _Optional[str] = ...) -> None: ...

class PinRmRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class PinLsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PinInfo(_message.Message):
    __slots__ = ("cid", "recursive", "name")
    CID_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    cid: str
    recursive: bool
    name: str
    def __init__(self, cid: _Optional[str] = ..., recursive: _Optional[bool] = ..., name: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class GcRequest(_message.Message):
    __slots__ = ("dry_run",)
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    def __init__(self, dry_run: _Optional[bool] = ...) -> None: ...

class GcEvent(_message.Message):
    __slots__ = ("progress", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    summary: GcSummary
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., summary: _Optional[_Union[GcSummary, _Mapping]] = ...) -> None: ...

class GcSummary(_message.Message):
    __slots__ = ("dry_run", "blocks_removed", "bytes_removed", "blocks_kept", "bytes_reclaimed", "blocks_missing", "missing")
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_KEPT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECLAIMED_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_MISSING_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    blocks_removed: int
    bytes_removed: int
    blocks_kept: int
    bytes_reclaimed: int
    blocks_missing: int
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dry_run: _Optional[bool] = ..., blocks_removed: _Optional[int] = ..., bytes_removed: _Optional[int] = ..., blocks_kept: _Optional[int] = ..., bytes_reclaimed: _Optional[int] = ..., blocks_missing: _Optional[int] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ("repair",)
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    repair: bool
    def __init__(self, repair: _Optional[bool] = ...) -> None: ...

class CheckEvent(_message.Message):
    __slots__ = ("progress", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    summary: CheckSummary
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., summary: _Optional[_Union[CheckSummary, _Mapping]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("severity", "where", "cid", "problem")
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    severity: str
    where: str
    cid: str
    problem: str
    def __init__(self, severity: _Optional[str] = ..., where: _Optional[str] = ..., cid: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class CheckSummary(_message.Message):
    __slots__ = ("blocks", "bytes_read", "roots", "findings", "repair")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    bytes_read: int
    roots: int
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    repair: RepairSummary
    def __init__(self, blocks: _Optional[int] = ..., bytes_read: _Optional[int] = ..., roots: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., repair: _Optional[_Union[RepairSummary, _Mapping]] = ...) -> None: ...

class RepairSummary(_message.Message):
    __slots__ = ("records_kept", "records_lost", "segments_freed", "segments_retired")
    RECORDS_KEPT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_LOST_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FREED_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_RETIRED_FIELD_NUMBER: _ClassVar[int]
    records_kept: int
    records_lost: int
    segments_freed: int
    segments_retired: int
    def __init__(self, records_kept: _Optional[int] = ..., records_lost: _Optional[int] = ..., segments_freed: _Optional[int] = ..., segments_retired: _Optional[int] = ...) -> None: ...

class ScrubRequest(_message.Message):
    __slots__ = ("rate_bytes_s", "restart")
    RATE_BYTES_S_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    rate_bytes_s: int
    restart: bool
    def __init__(self, rate_bytes_s: _Optional[int] = ..., restart: _Optional[bool] = ...) -> None: ...

class ScrubEvent(_message.Message):
    __slots__ = ("progress", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    summary: ScrubSummary
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., summary: _Optional[_Union[ScrubSummary, _Mapping]] = ...) -> None: ...

class ScrubSummary(_message.Message):
    __slots__ = ("resumed", "segments", "records", "bytes_read", "findings")
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    resumed: bool
    segments: int
    records: int
    bytes_read: int
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, resumed: _Optional[bool] = ..., segments: _Optional[int] = ..., records: _Optional[int] = ..., bytes_read: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class DumpRequest(_message.Message):
    __slots__ = ("what", "argument")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    what: str
    argument: str
    def __init__(self, what: _Optional[str] = ..., argument: _Optional[str] = ...) -> None: ...

class DumpItem(_message.Message):
    __slots__ = ("kind", "device_offset", "damaged", "fields")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    device_offset: int
    damaged: str
    fields: str
    def __init__(self, kind: _Optional[str] = ..., device_offset: _Optional[int] = ..., damaged: _Optional[str] = ..., fields: _Optional[str] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CompactEvent(_message.Message):
    __slots__ = ("progress", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    summary: CompactSummary
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., summary: _Optional[_Union[CompactSummary, _Mapping]] = ...) -> None: ...

class CompactSummary(_message.Message):
    __slots__ = ("segments_freed", "bytes_moved", "bytes_freed")
    SEGMENTS_FREED_FIELD_NUMBER: _ClassVar[int]
    BYTES_MOVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_FREED_FIELD_NUMBER: _ClassVar[int]
    segments_freed: int
    bytes_moved: int
    bytes_freed: int
    def __init__(self, segments_freed: _Optional[int] = ..., bytes_moved: _Optional[int] = ..., bytes_freed: _Optional[int] = ...) -> None: ...

class ResizeRequest(_message.Message):
    __slots__ = ("size_bytes",)
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    def __init__(self, size_bytes: _Optional[int] = ...) -> None: ...

class ResizeEvent(_message.Message):
    __slots__ = ("progress", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    summary: ResizeSummary
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., summary: _Optional[_Union[ResizeSummary, _Mapping]] = ...) -> None: ...

class ResizeSummary(_message.Message):
    __slots__ = ("store", "size_bytes", "segments_before", "segments", "bytes_moved", "free_bytes", "file_fits")
    STORE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_MOVED_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILE_FITS_FIELD_NUMBER: _ClassVar[int]
    store: str
    size_bytes: int
    segments_before: int
    segments: int
    bytes_moved: int
    free_bytes: int
    file_fits: bool
    def __init__(self, store: _Optional[str] = ..., size_bytes: _Optional[int] = ..., segments_before: _Optional[int] = ..., segments: _Optional[int] = ..., bytes_moved: _Optional[int] = ..., free_bytes: _Optional[int] = ..., file_fits: _Optional[bool] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatsSummary(_message.Message):
    __slots__ = ("store", "device_bytes", "used_bytes", "live_bytes", "dead_bytes", "free_bytes", "blocks", "segments", "segments_free", "roots", "snapshots", "pins", "daemon_pid", "mounts")
    STORE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FREE_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    DAEMON_PID_FIELD_NUMBER: _ClassVar[int]
    MOUNTS_FIELD_NUMBER: _ClassVar[int]
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
    mounts: _containers.RepeatedCompositeFieldContainer[MountInfo]
    def __init__(self, store: _Optional[str] = ..., device_bytes: _Optional[int] = ..., used_bytes: _Optional[int] = ..., live_bytes: _Optional[int] = ..., dead_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., blocks: _Optional[int] = ..., segments: _Optional[int] = ..., segments_free: _Optional[int] = ..., roots: _Optional[int] = ..., snapshots: _Optional[int] = ..., pins: _Optional[int] = ..., daemon_pid: _Optional[int] = ..., mounts: _Optional[_Iterable[_Union[MountInfo, _Mapping]]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("type", "message", "fields")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    type: str
    message: str
    fields: _containers.RepeatedCompositeFieldContainer[ErrorField]
    def __init__(self, type: _Optional[str] = ..., message: _Optional[str] = ..., fields: _Optional[_Iterable[_Union[ErrorField, _Mapping]]] = ...) -> None: ...

class ErrorField(_message.Message):
    __slots__ = ("name", "text", "data", "number", "flag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    data: bytes
    number: int
    flag: bool
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ..., data: _Optional[bytes] = ..., number: _Optional[int] = ..., flag: _Optional[bool] = ...) -> None: ...
