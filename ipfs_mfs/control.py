"""The node daemon's control socket: gRPC over a unix socket. The only module here that knows grpc.

The service descriptor of `node.proto` drives both ends: an RPC `RootCreate` is the method
`root_create` of `NodeApi`, its request's fields are the arguments, its reply's message name is the
name of the result's class in `api.py`. Three replies are special: `Done` is None, `Chunk` is
bytes, and a `…Event` stream is a progress callback followed by a summary.

Security: whoever can open the socket owns the store, so it is made mode 0600 in a directory of
mode 0700 (`owner.py`). Names are checked here again, and blocks are verified against their CIDs:
a faulty client must not be able to store bytes under a wrong CID.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError

from ipfs_mfs import api, wire
from ipfs_mfs.errors import BadRequest, DaemonGone, FailedError
from ipfs_mfs.pb import node_pb2 as pb

if TYPE_CHECKING:
    from ipld.block import Block

T = TypeVar("T")

LOGGER = logging.getLogger(__name__)
SERVICE = pb.DESCRIPTOR.services_by_name["Node"]
ERROR_KEY = "ipfs-mfs-error-bin"
# A batch of blocks is at most two blocks of 2 MiB, or one after a batch that was almost full.
MESSAGE_MAX_BYTES = 8 << 20
BATCH_BYTES = 1 << 20
BATCHES_IN_FLIGHT = 4
SERVER_THREADS = 32
STOP_GRACE_S = 5.0
_LIMITS = [
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
]


def method_name(rpc: str) -> str:
    """`RootCreate` -> `root_create`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in rpc).lstrip("_")


def result_class(reply: str) -> type[Any] | None:
    """The class of a reply message's result; None for Done, Chunk and events."""
    return getattr(api, reply, None)


class RemoteNode:
    """NodeApi over the socket of a running daemon. One per command; close it."""

    def __init__(self, socket_path: Path) -> None:
        # Without a target authority gRPC would send the socket path as host name.
        options = [*_LIMITS, ("grpc.default_authority", "localhost")]
        self._channel = grpc.insecure_channel(f"unix:{socket_path}", options=options)

    def close(self) -> None:
        self._channel.close()

    def info(self) -> api.NodeInfo:
        return self._one("Info", api.NodeInfo)

    def mount(self, mountpoint: str, options: str) -> api.MountInfo:
        return self._one("Mount", api.MountInfo, mountpoint=mountpoint, options=options)

    def umount(self, mountpoint: str) -> None:
        self._call("Umount", mountpoint=mountpoint)

    def sync(self, root: str | None) -> list[api.RootCid]:
        return list(self._many("Sync", api.RootCid, root=root))

    def root_create(
        self, name: str, profile: str | None, quota_bytes: int | None, cid: str | None
    ) -> api.RootInfo:
        return self._one(
            "RootCreate",
            api.RootInfo,
            name=name,
            profile=profile,
            quota_bytes=quota_bytes,
            cid=cid,
        )

    def root_list(self) -> list[api.RootInfo]:
        return list(self._many("RootList", api.RootInfo))

    def root_stat(self, name: str) -> api.RootInfo:
        return self._one("RootStat", api.RootInfo, name=name)

    def root_drop(self, name: str, snapshot: str | None) -> None:
        self._call("RootDrop", name=name, snapshot=snapshot)

    def root_rename(self, name: str, new_name: str) -> api.RootInfo:
        return self._one("RootRename", api.RootInfo, name=name, new_name=new_name)

    def root_snapshot(self, name: str, snapshot: str) -> api.SnapshotInfo:
        return self._one("RootSnapshot", api.SnapshotInfo, name=name, snapshot=snapshot)

    def root_snapshots(self, name: str) -> list[api.SnapshotInfo]:
        return list(self._many("RootSnapshots", api.SnapshotInfo, name=name))

    def root_clone(self, name: str, snapshot: str | None, new_name: str) -> api.RootInfo:
        return self._one("RootClone", api.RootInfo, name=name, snapshot=snapshot, new_name=new_name)

    def root_restore(self, name: str, snapshot: str) -> api.RootInfo:
        return self._one("RootRestore", api.RootInfo, name=name, snapshot=snapshot)

    def root_diff(self, first: str, second: str) -> Iterator[api.Difference]:
        return self._many("RootDiff", api.Difference, first=first, second=second)

    def root_log(self, name: str) -> list[api.HistoryEntry]:
        return list(self._many("RootLog", api.HistoryEntry, name=name))

    def ingest(self) -> "RemoteIngest":
        return RemoteIngest(self._method("Ingest"))

    def stat(self, address: str) -> api.ContentInfo:
        return self._one("Stat", api.ContentInfo, address=address)

    def ls(self, address: str) -> Iterator[api.EntryInfo]:
        return self._many("Ls", api.EntryInfo, address=address)

    def cat(self, address: str, offset: int, length: int | None) -> Iterator[bytes]:
        arguments = {"address": address, "offset": offset, "length": length}
        return (chunk.data for chunk in self._stream("Cat", arguments))

    def tree(self, address: str) -> Iterator[api.TreeItem]:
        return self._many("Tree", api.TreeItem, address=address)

    def export(self, address: str, since: str | None) -> Iterator[bytes]:
        arguments = {"address": address, "since": since}
        return (chunk.data for chunk in self._stream("Export", arguments))

    def pin_add(self, address: str, recursive: bool, name: str) -> api.PinInfo:
        return self._one("PinAdd", api.PinInfo, address=address, recursive=recursive, name=name)

    def pin_rm(self, address: str) -> api.PinInfo:
        return self._one("PinRm", api.PinInfo, address=address)

    def pin_ls(self) -> list[api.PinInfo]:
        return list(self._many("PinLs", api.PinInfo))

    def gc(self, dry_run: bool, progress: api.ProgressCallback) -> api.GcSummary:
        return self._watched("Gc", api.GcSummary, progress, dry_run=dry_run)

    def check(self, progress: api.ProgressCallback, repair: bool = False) -> api.CheckSummary:
        return self._watched("Check", api.CheckSummary, progress, repair=repair)

    def scrub(
        self, rate_bytes_s: int | None, restart: bool, progress: api.ProgressCallback
    ) -> api.ScrubSummary:
        arguments = {"rate_bytes_s": rate_bytes_s, "restart": restart}
        return self._watched("Scrub", api.ScrubSummary, progress, **arguments)

    def dump(self, what: str, argument: str) -> Iterator[api.DumpItem]:
        return self._many("Dump", api.DumpItem, what=what, argument=argument)

    def compact(self, progress: api.ProgressCallback) -> api.CompactSummary:
        return self._watched("Compact", api.CompactSummary, progress)

    def resize(self, size_bytes: int | None, progress: api.ProgressCallback) -> api.ResizeSummary:
        return self._watched("Resize", api.ResizeSummary, progress, size_bytes=size_bytes)

    def stats(self) -> api.StatsSummary:
        return self._one("Stats", api.StatsSummary)

    def _method(self, rpc: str) -> Callable[..., Any]:
        method = SERVICE.methods_by_name[rpc]
        kind = ("stream" if method.client_streaming else "unary") + (
            "_stream" if method.server_streaming else "_unary"
        )
        made: Callable[..., Any] = getattr(self._channel, kind)(
            f"/{SERVICE.full_name}/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_message_class(method.output_type).FromString,
        )
        return made

    def _call(self, rpc: str, **arguments: Any) -> Any:
        request = wire.request(_message_class(SERVICE.methods_by_name[rpc].input_type), arguments)
        try:
            return self._method(rpc)(request)
        except grpc.RpcError as error:
            raise _raised_by(error) from None

    def _one(self, rpc: str, kind: type[T], **arguments: Any) -> T:
        return wire.from_message(self._call(rpc, **arguments), kind)

    def _stream(self, rpc: str, arguments: dict[str, Any]) -> Iterator[Any]:
        request = wire.request(_message_class(SERVICE.methods_by_name[rpc].input_type), arguments)
        call = self._method(rpc)(request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise _raised_by(error) from None
        finally:
            call.cancel()

    def _many(self, rpc: str, kind: type[T], **arguments: Any) -> Iterator[T]:
        return (wire.from_message(each, kind) for each in self._stream(rpc, arguments))

    def _watched(
        self, rpc: str, kind: type[T], progress: api.ProgressCallback, **arguments: Any
    ) -> T:
        for event in self._stream(rpc, arguments):
            if event.HasField("summary"):
                return wire.from_message(event.summary, kind)
            progress(wire.from_message(event.progress, api.Progress))
        raise DaemonGone("the daemon's answer ended too early", "see its log")


class RemoteIngest:
    """Sends blocks in batches. At most BATCHES_IN_FLIGHT batches wait, which bounds the memory."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._queue: queue.Queue[pb.IngestRequest | None] = queue.Queue(BATCHES_IN_FLIGHT)
        self._call = method.future(iter(self._queue.get, None))  # type: ignore[attr-defined]  # a grpc multi-callable
        self._batch: list[pb.Block] = []
        self._batch_bytes = 0

    def __enter__(self) -> "RemoteIngest":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._call.done():
            self._call.cancel()

    def put_many(self, blocks: "Iterable[Block]") -> int:
        for block in blocks:
            self._batch.append(pb.Block(cid=block.cid, data=bytes(block.data)))
            self._batch_bytes += len(block.data)
            if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= 1024:
                self._send(pb.IngestRequest(blocks=self._batch))
                self._batch, self._batch_bytes = [], 0
        return 0

    def finish(self, pins: Sequence[str], root: api.NewRoot | None = None) -> api.IngestReport:
        finish = pb.IngestFinish(pins=pins)
        if root is not None:
            wire.to_message(root, finish.root)
        self._send(pb.IngestRequest(blocks=self._batch, finish=finish))
        self._send(None)
        return wire.from_message(self._answer(), api.IngestReport)

    def _send(self, request: pb.IngestRequest | None) -> None:
        while True:
            if self._call.done():
                self._answer()
                raise DaemonGone("the daemon stopped taking blocks", "see its log")
            try:
                self._queue.put(request, timeout=0.2)
                return
            except queue.Full:
                continue

    def _answer(self) -> Any:
        try:
            return self._call.result()
        except grpc.RpcError as error:
            raise _raised_by(error) from None


class ControlServer:
    """Serves a node on a socket until `stop`. Handlers run in SERVER_THREADS threads."""

    def __init__(self, node: api.NodeApi, socket_path: Path) -> None:
        self._server = grpc.server(ThreadPoolExecutor(SERVER_THREADS), options=_LIMITS)
        handlers = {rpc: _handler(node, method) for rpc, method in SERVICE.methods_by_name.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),)
        )
        self._path = socket_path

    def start(self) -> None:
        """Raises FailedError when the socket cannot be made."""
        mask = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
            self._path.chmod(0o600)
            self._server.start()
        except (RuntimeError, OSError) as error:
            raise FailedError(f"control socket {self._path}: {error}", "see the log") from error
        finally:
            os.umask(mask)

    def stop(self) -> None:
        """Refuses new calls, gives running ones STOP_GRACE_S, removes the socket.

        A handler that does not end must not keep the store open, so the wait has an end, too.
        """
        self._server.stop(STOP_GRACE_S).wait(2 * STOP_GRACE_S)
        self._path.unlink(missing_ok=True)


def _handler(node: api.NodeApi, method: Any) -> Any:
    """gRPC hands over requests as bytes and `_decoder` parses them: where gRPC itself fails to
    parse a message of a stream, the handler's thread would wait for the next one for ever."""
    function = getattr(node, method_name(method.name))
    decode = _decoder(method)
    encode = _message_class(method.output_type).SerializeToString
    kind = result_class(method.output_type.name)
    reply = _message_class(method.output_type)
    if method.client_streaming:
        ingest = _edge(lambda requests: _ingest(node, map(decode, requests)))
        return grpc.stream_unary_rpc_method_handler(ingest, None, encode)
    if not method.server_streaming:

        def unary(request: bytes) -> Any:
            result = function(**wire.arguments_of(decode(request)))
            return reply() if kind is None else wire.to_message(result, reply())

        return grpc.unary_unary_rpc_method_handler(_edge(unary), None, encode)
    if method.output_type.name.endswith("Event"):
        stream = _events(function, reply)
    elif kind is None:
        stream = _chunks(function, reply)
    else:
        stream = _items(function, reply)
    edge = _streaming_edge(lambda request: stream(decode(request)))
    return grpc.unary_stream_rpc_method_handler(edge, None, encode)


def _decoder(method: Any) -> Callable[[bytes], Any]:
    message = _message_class(method.input_type)

    def decode(data: bytes) -> Any:
        try:
            return message.FromString(data)
        except DecodeError as error:
            raise BadRequest(f"{method.name}: {error}") from None

    return decode


def _items(function: Callable[..., Any], reply: Any) -> Callable[[Any], Iterator[Any]]:
    def stream(request: Any) -> Iterator[Any]:
        for item in function(**wire.arguments_of(request)):
            yield wire.to_message(item, reply())

    return stream


def _chunks(function: Callable[..., Any], reply: Any) -> Callable[[Any], Iterator[Any]]:
    def stream(request: Any) -> Iterator[Any]:
        for data in function(**wire.arguments_of(request)):
            yield reply(data=data)

    return stream


def _events(function: Callable[..., Any], reply: Any) -> Callable[[Any], Iterator[Any]]:
    """The work runs in a thread of its own, since it reports by calls and gRPC wants to pull.

    When the client goes away the work stops at its next report: `closed` makes it raise.
    """

    def stream(request: Any) -> Iterator[Any]:
        events: queue.Queue[Any] = queue.Queue(16)
        closed = threading.Event()

        def report(progress: api.Progress) -> None:
            if closed.is_set():
                raise DaemonGone("the asking command has ended")
            if not events.full():
                events.put(reply(progress=wire.to_message(progress, pb.Progress())))

        def work() -> None:
            try:
                summary = function(**wire.arguments_of(request), progress=report)
                events.put(reply(summary=wire.to_message(summary, type(reply().summary)())))
            except Exception as error:  # noqa: BLE001  # handed to the handler's edge, which raises it
                events.put(error)

        threading.Thread(target=work, name="control-work", daemon=True).start()
        try:
            while True:
                event = events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if event.HasField("summary"):
                    return
        finally:
            closed.set()

    return stream


def _ingest(node: api.NodeApi, requests: Iterator[Any]) -> Any:
    from ipld.block import Block

    with node.ingest() as sink:
        for request in requests:
            sink.put_many([Block.verify(block.cid, block.data) for block in request.blocks])
            if request.HasField("finish"):
                finish = request.finish
                root = wire.from_message(finish.root, api.NewRoot)
                report = sink.finish(list(finish.pins), root if finish.HasField("root") else None)
                return wire.to_message(report, pb.IngestReport())
    return pb.IngestReport()


def _edge(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def handle(request: Any, context: Any) -> Any:
        try:
            return function(request)
        except Exception as error:  # noqa: BLE001  # the transport's edge: any error becomes a status
            _abort(context, error)

    return handle


def _streaming_edge(function: Callable[[Any], Iterator[Any]]) -> Callable[[Any, Any], Any]:
    def handle(request: Any, context: Any) -> Iterator[Any]:
        try:
            yield from function(request)
        except Exception as error:  # noqa: BLE001  # the transport's edge: any error becomes a status
            _abort(context, error)

    return handle


def _abort(context: Any, error: Exception) -> NoReturn:
    if isinstance(error, grpc.RpcError):
        raise error  # the client has gone; nobody is left to be told anything
    if type(error).__module__ not in wire.ERROR_MODULES and not isinstance(error, OSError):
        LOGGER.error("a request failed unexpectedly", exc_info=error)
    context.set_trailing_metadata(((ERROR_KEY, wire.error_to_bytes(error)),))
    context.abort(grpc.StatusCode.ABORTED, type(error).__name__)
    raise AssertionError("abort raises")


def _raised_by(error: Any) -> Exception:
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_KEY:
            return wire.error_from_bytes(value)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return DaemonGone("the daemon does not answer on its socket", "mount again")
    return DaemonGone(f"{error.code().name}: {error.details()}", "see the daemon's log")


def _message_class(descriptor: Any) -> Any:
    return getattr(pb, descriptor.name)
