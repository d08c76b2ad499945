"""The control socket under stress and under attack: many callers, big streams, garbage."""

import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from ipfs_mfs import api
from ipfs_mfs.config import Config
from ipfs_mfs.control import (
    BATCHES_IN_FLIGHT,
    MESSAGE_MAX_BYTES,
    SERVICE,
    ControlServer,
    RemoteNode,
)
from ipfs_mfs.errors import DaemonGone, FailedError, ProgramError
from ipfs_mfs.formatting import format_store
from ipfs_mfs.node import Node
from ipfs_mfs.owner import place_of
from ipfs_mfs.pb import node_pb2 as pb
from ipld import cid as cids
from ipld.block import Block
from ipld.errors import IpldError
from ipld.filedag import add_bytes
from ipld.profile import UNIXFS_V1_2025
from mfs.errors import RootNotFound

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path):
    """A store of this process behind a socket."""
    config = Config(
        store=tmp_path / "store.blk",
        runtime_dir=Path("/tmp") / f"ipfs-mfs-test-{time.time_ns()}",
        log_dir=tmp_path / "log",
    )
    format_store(config, size_bytes=256 << 20, force=False)
    place = place_of(config)
    lock = place.try_lock()
    assert lock is not None
    node = Node.open(config, lock)
    server = ControlServer(node, place.socket_path)
    server.start()
    yield SimpleNamespace(node=node, path=place.socket_path, server=server)
    server.stop()
    node.close()


@pytest.fixture
def remote(served):
    made = RemoteNode(served.path)
    yield made
    made.close()


def ignore(_):
    pass


def put(node, data):
    blocks: list[Block] = []
    link = add_bytes(data, UNIXFS_V1_2025, blocks.append)
    text = cids.to_text(link.cid)
    with node.ingest() as sink:
        sink.put_many(blocks)
        sink.finish([text])
    return text


def test_many_callers_at_once_get_their_own_answers(served):
    def work(number):
        remote = RemoteNode(served.path)
        try:
            data = random.Random(number).randbytes(200_000 + number)
            text = put(remote, data)
            assert b"".join(remote.cat(text, 0, None)) == data
            name = f"r{number}"
            remote.root_create(name, None, None, None)
            remote.root_snapshot(name, "s")
            with pytest.raises(RootNotFound):
                remote.root_stat(f"missing{number}")
            return name
        finally:
            remote.close()

    with ThreadPoolExecutor(12) as pool:
        names = list(pool.map(work, range(36)))
    assert {info.name for info in served.node.root_list()} == {"main", *names}
    assert not served.node.check(ignore).damaged


def test_a_large_file_streams_in_and_out_with_bounded_messages(remote):
    data = random.Random(1).randbytes(40 << 20)
    text = put(remote, data)
    pieces = list(remote.cat(text, 0, None))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) < MESSAGE_MAX_BYTES / 2


def test_a_block_of_the_largest_size_fits_into_a_message(remote):
    data = bytes(2 << 20)
    block = Block.build(data, cids.RAW, UNIXFS_V1_2025)
    almost = Block.build(b"x" * ((1 << 20) - 1), cids.RAW, UNIXFS_V1_2025)
    with remote.ingest() as sink:
        sink.put_many([almost, block])
        sink.finish([cids.to_text(block.cid)])
    assert b"".join(remote.cat(cids.to_text(block.cid), 0, None)) == data


def test_memory_of_a_sender_is_bounded_by_batches(served, remote, monkeypatch):
    """The server takes nothing for a while: the sender has to wait instead of piling up."""
    gate = threading.Event()
    real = served.node._repo.put_many

    def slow(blocks):
        gate.wait(20)
        return real(blocks)

    monkeypatch.setattr(served.node._repo, "put_many", slow)
    sent = 0
    with remote.ingest() as sink:

        def send():
            nonlocal sent
            for number in range(64):
                data = random.Random(number).randbytes(1 << 20)
                sink.put_many([Block.build(data, cids.RAW, UNIXFS_V1_2025)])
                sent += 1

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(1.0)
        waiting = sent
        gate.set()
        thread.join()
        assert waiting < 32 + BATCHES_IN_FLIGHT
        sink.finish([])
    assert sent == 64


def test_a_stream_that_is_dropped_gives_its_lease_back(served, remote):
    text = put(remote, random.Random(2).randbytes(8 << 20))
    stream = remote.cat(text, 0, None)
    next(stream)
    remote.pin_rm(text)
    assert remote.gc(False, ignore).blocks_removed == 0, "a reader has it open"
    stream.close()
    deadline_s = time.monotonic() + 20
    while remote.gc(False, ignore).blocks_removed == 0:
        assert time.monotonic() < deadline_s, "the lease was never given back"
        time.sleep(0.1)


def test_a_client_that_goes_away_ends_the_work_it_asked_for(served, monkeypatch):
    from repo.service import Repo

    ended = threading.Event()

    def endless(self, *, dry_run, progress):
        try:
            while True:
                progress("mark", 1, None)
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr(Repo, "gc", endless)
    remote = RemoteNode(served.path)
    seen = []

    def stop_after_three(progress):
        seen.append(progress)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote.gc(True, stop_after_three)
    remote.close()
    assert ended.wait(20)


def test_a_server_that_stops_in_the_middle_is_a_typed_error(served):
    remote = RemoteNode(served.path)
    text = put(remote, random.Random(3).randbytes(30 << 20))
    stream = remote.cat(text, 0, None)
    next(stream)
    stopper = threading.Thread(target=served.server._server.stop, args=(0,))
    stopper.start()
    with pytest.raises(DaemonGone):
        for _ in stream:
            time.sleep(0.01)
    stopper.join()
    with pytest.raises(DaemonGone):
        remote.info()
    remote.close()


def test_a_socket_that_cannot_be_made_is_a_typed_error(served, tmp_path):
    server = ControlServer(served.node, tmp_path / "no/such/folder/x.sock")
    with pytest.raises(FailedError, match="control socket"):
        server.start()


# ----------------------------------------------------------------------------------- garbage


def raw_call(path, method, payload, *, streaming=False):
    """Sends bytes as the request of a method."""
    channel = grpc.insecure_channel(
        f"unix:{path}", options=[("grpc.default_authority", "localhost")]
    )
    kind = channel.stream_unary if streaming else channel.unary_stream
    call = kind(f"/{SERVICE.full_name}/{method}")
    try:
        answer = call(iter([payload]) if streaming else payload, timeout=20)
        return answer if streaming else list(answer)
    finally:
        channel.close()


@pytest.mark.parametrize("method", SERVICE.methods_by_name)
def test_garbage_instead_of_a_request_is_refused_and_the_server_lives(served, remote, method):
    streaming = SERVICE.methods_by_name[method].client_streaming
    rng = random.Random(method)
    for _ in range(20):
        payload = rng.randbytes(rng.choice((1, 5, 60, 3000)))
        try:
            raw_call(served.path, method, payload, streaming=streaming)
        except grpc.RpcError:
            continue
    assert [info.name for info in remote.root_list()].count("main") <= 1
    assert not remote.check(ignore).damaged


@pytest.mark.parametrize(
    "request_message",
    [
        pb.RootCreateRequest(name="../../etc/cron.d/x"),
        pb.RootCreateRequest(name="a/b"),
        pb.RootCreateRequest(name="x" * 5000),
        pb.RootCreateRequest(name=""),
        pb.RootCreateRequest(name="a\0b"),
    ],
    ids=lambda message: message.name[:12],
)
def test_hostile_names_are_refused_by_the_server_itself(served, remote, request_message):
    with pytest.raises(grpc.RpcError):
        raw_call(served.path, "RootCreate", request_message.SerializeToString())
    assert [info.name for info in remote.root_list()] == ["main"]


def test_an_unknown_method_is_refused(served, remote):
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(served.path, "Destroy", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert remote.root_list()


def test_an_oversized_message_is_refused(served, remote):
    blocks = [pb.Block(cid=b"\x01\x55\x00\x00", data=bytes(MESSAGE_MAX_BYTES + 1))]
    with pytest.raises(grpc.RpcError):
        raw_call(
            served.path,
            "Ingest",
            pb.IngestRequest(blocks=blocks).SerializeToString(),
            streaming=True,
        )
    assert remote.root_list()


@pytest.mark.parametrize("seed", range(10))
def test_bytes_that_are_no_http2_do_not_disturb_others(served, remote, seed):
    rng = random.Random(seed)
    with socket.socket(socket.AF_UNIX) as attacker:
        attacker.connect(str(served.path))
        attacker.sendall(rng.choice((b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(1000), b"")))
        attacker.settimeout(0.2)
        assert remote.info().version
    assert remote.root_list()


@pytest.mark.parametrize(
    "cid", [b"", b"\x01", b"\x12\x20" + bytes(31), b"\x01\x55\x12\x20" + bytes(33), b"\xff" * 40]
)
def test_a_block_under_a_cid_that_is_none_is_refused(remote, cid):
    with pytest.raises((IpldError, ProgramError)), remote.ingest() as sink:
        sink.put_many([Block(cid, b"data")])
        sink.finish([])
    assert isinstance(remote.info(), api.NodeInfo)
