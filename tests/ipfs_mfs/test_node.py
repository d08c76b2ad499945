"""What a node does, the same whether the store is opened here or asked for over the socket."""

import io
import os
import random
import time
from pathlib import Path

import pytest

from blkdev.errors import SizeTooSmall
from ipfs_mfs import api
from ipfs_mfs.config import Config
from ipfs_mfs.control import ControlServer, RemoteNode
from ipfs_mfs.errors import BadAddress, BadName, ProgramError, UsageError
from ipfs_mfs.formatting import format_store
from ipfs_mfs.node import Node
from ipfs_mfs.owner import place_of
from ipld import cid as cids
from ipld import dirdag
from ipld.block import Block
from ipld.car import CarReader
from ipld.errors import HashMismatch, InvalidParameter, NotAFile, PathNotFound
from ipld.filedag import add_bytes
from ipld.nodes import Entry
from ipld.profile import UNIXFS_V1_2025
from mfs.errors import RootExists, RootNotFound, SnapshotNotFound
from pinning.errors import NotPinned
from repo.errors import BlockUnavailable
from repo.service import Repo

SIZE_BYTES = 128 << 20
DATA = random.Random(1).randbytes(9 << 18)


@pytest.fixture
def config(tmp_path):
    return Config(
        store=tmp_path / "store.blk",
        store_size_bytes=SIZE_BYTES,
        segment_size_bytes=4 << 20,
        runtime_dir=Path("/tmp") / f"ipfs-mfs-test-{tmp_path.name}-{time.time_ns()}",
        log_dir=tmp_path / "log",
    )


@pytest.fixture
def local(config):
    format_store(config, size_bytes=None, force=False)
    lock = place_of(config).try_lock()
    assert lock is not None
    node = Node.open(config, lock)
    yield node
    node.close()


@pytest.fixture(params=["local", "remote"])
def node(request, config, local):
    if request.param == "local":
        yield local
        return
    place = place_of(config)
    server = ControlServer(local, place.socket_path)
    server.start()
    remote = RemoteNode(place.socket_path)
    yield remote
    remote.close()
    server.stop()


def blocks_of(data=DATA, name=b"f"):
    """A directory with one file, as blocks, and its CID."""
    found = []
    file = add_bytes(data, UNIXFS_V1_2025, found.append)
    link = dirdag.build([Entry(name, file.cid, file.tsize)], UNIXFS_V1_2025, found.append)
    return found, cids.to_text(link.cid)


def put(node, data=DATA, pin=True):
    blocks, cid = blocks_of(data)
    with node.ingest() as sink:
        sink.put_many(blocks)
        sink.finish([cid] if pin else [])
    return cid


def ignore(_):
    pass


# ------------------------------------------------------------------------------------- roots


def test_a_new_store_has_an_empty_root(node):
    (info,) = node.root_list()
    assert (info.name, info.size_bytes, info.entries, info.snapshots) == ("main", 0, 1, 0)
    assert info == node.root_stat("main")
    assert node.sync(None) == node.sync("main") == [api.RootCid("main", info.cid)]


def test_a_root_is_created_renamed_cloned_and_dropped(node):
    cid = put(node)
    made = node.root_create("photos", "unixfs-v0-2015", 1 << 30, None)
    assert (made.profile, made.quota_bytes) == ("unixfs-v0-2015", 1 << 30)
    copy = node.root_create("copy", None, None, cid)
    assert (copy.cid, copy.profile) == (cid, "unixfs-v1-2025")
    assert node.root_rename("copy", "kept").cid == cid
    assert node.root_clone("kept", None, "work").cid == cid
    node.root_drop("kept", None)
    assert [info.name for info in node.root_list()] == ["main", "photos", "work"]
    with pytest.raises(RootNotFound):
        node.root_stat("kept")
    with pytest.raises(RootExists):
        node.root_create("work", None, None, None)


def test_a_snapshot_is_kept_listed_restored_and_dropped(node):
    empty = node.root_stat("main").cid
    taken = node.root_snapshot("main", "empty")
    assert (taken.root, taken.name, taken.cid) == ("main", "empty", empty)
    node.root_snapshot("main", "again")
    assert [info.name for info in node.root_snapshots("main")] == ["empty", "again"]
    assert node.root_stat("main").snapshots == 2
    assert node.stat("main@empty").cid == empty
    assert node.root_clone("main", "empty", "other").cid == empty
    assert node.root_restore("main", "empty").cid == empty
    node.root_drop("main", "again")
    assert [info.name for info in node.root_snapshots("main")] == ["empty"]
    with pytest.raises(SnapshotNotFound):
        node.stat("main@again")


def test_differences_and_history_of_roots(node, local):
    first = put(node)
    node.root_create("a", None, None, first)
    node.root_snapshot("a", "s")
    local.roots.tree("a").mkdir(1, b"new", 0o755, 0, 0)
    local.roots.tree("a").unlink(1, b"f")
    assert sorted(node.root_diff("a@s", "a")) == [
        api.Difference("added", b"new"),
        api.Difference("removed", b"f"),
    ]
    newest, *_, oldest = node.root_log("a")
    assert oldest.cid == first
    assert newest.cid == node.root_stat("a").cid != first


@pytest.mark.parametrize("name", ["", "..", "a/b", "x" * 256, "a@b", "\0", ".x"])
def test_a_name_that_names_no_root_is_refused_in_every_operation(node, name):
    with pytest.raises(BadName):
        node.root_create(name, None, None, None)
    with pytest.raises(BadName):
        node.root_clone("main", None, name)
    with pytest.raises(BadName):
        node.root_rename("main", name)
    with pytest.raises(BadName):
        node.root_snapshot("main", name)


def test_an_unknown_profile_is_named(node):
    with pytest.raises(InvalidParameter, match="nonsense"):
        node.root_create("x", "nonsense", None, None)


# ----------------------------------------------------------------------------------- content


def test_content_is_read_by_every_kind_of_address(node):
    cid = put(node)
    node.root_create("r", None, None, cid)
    node.root_snapshot("r", "s")
    for address in (f"{cid}/f", f"/ipfs/{cid}/f", "r/f", "r@s/f"):
        assert b"".join(node.cat(address, 0, None)) == DATA
        assert node.stat(address).size_bytes == len(DATA)
    assert b"".join(node.cat("r/f", 1 << 20, 100)) == DATA[1 << 20 : (1 << 20) + 100]
    (entry,) = node.ls("r")
    assert (entry.name, entry.kind, entry.size_bytes) == (b"f", "file", len(DATA))
    assert [item.path for item in node.tree("r@s") if item.data is None] == [b"", b"f"]


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("nothing", RootNotFound),
        ("main@nothing", SnapshotNotFound),
        ("main/nothing", PathNotFound),
        ("/etc/passwd", BadAddress),
        ("QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN", BlockUnavailable),
    ],
)
def test_what_is_not_there_is_a_typed_error_in_every_operation(node, address, error):
    for ask in (
        lambda: node.stat(address),
        lambda: list(node.ls(address)),
        lambda: list(node.cat(address, 0, None)),
        lambda: list(node.tree(address)),
        lambda: list(node.export(address, None)),
        lambda: node.pin_add(address, True, ""),
    ):
        with pytest.raises(error):
            ask()


def test_the_content_of_a_directory_is_refused(node):
    with pytest.raises(NotAFile):
        list(node.cat("main", 0, None))


def test_an_exported_dag_comes_back_whole(node):
    cid = put(node)
    data = b"".join(node.export(cid, None))
    reader = CarReader(io.BytesIO(data).read)
    assert [cids.to_text(root) for root in reader.roots] == [cid]
    assert {block.cid for block in reader} == {block.cid for block in blocks_of()[0]}
    bigger = put(node, DATA + b"!")
    delta = b"".join(node.export(bigger, cid))
    assert len(delta) < len(data) / 2


def test_a_stream_that_is_not_read_to_its_end_is_given_up(node):
    cid = put(node)
    stream = node.cat(f"{cid}/f", 0, None)
    assert next(stream)
    stream.close()
    assert node.gc(False, ignore).blocks_removed == 0


# ------------------------------------------------------------------------------------ ingest


def test_what_was_added_is_pinned_and_counted(node):
    cid = put(node)
    assert node.pin_ls() == [api.PinInfo(cid, True, "")]
    blocks, _ = blocks_of()
    with node.ingest() as sink:
        sink.put_many(blocks)
        assert sink.finish([cid]).blocks_new == 0


@pytest.mark.parametrize("most", [0, 1 << 17])
def test_the_pin_of_what_was_just_stored_asks_the_device_for_no_leaf(local, monkeypatch, most):
    """Past the limit of what is remembered it asks, and the pin is the same."""
    monkeypatch.setattr("ipfs_mfs.ingest._KNOWN_COUNT_MAX", most)
    asked = []
    really = Repo.has
    monkeypatch.setattr(Repo, "has", lambda self, cid: asked.append(cid) or really(self, cid))
    cid = put(local)
    assert bool(asked) == (most == 0)
    assert local.pin_ls() == [api.PinInfo(cid, True, "")]


def test_an_ingest_that_is_not_finished_leaves_only_garbage(node):
    blocks, cid = blocks_of()
    with pytest.raises(KeyboardInterrupt), node.ingest() as sink:
        sink.put_many(blocks)
        raise KeyboardInterrupt
    assert node.pin_ls() == []
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:  # a lease of the server ends a moment after the call
        node.gc(False, ignore)
        if node.stats().blocks <= 2:
            break
    with pytest.raises(BlockUnavailable):
        node.stat(cid)
    assert not node.check(ignore).damaged


def test_an_incomplete_dag_is_neither_pinned_nor_made_a_root(node):
    blocks, cid = blocks_of()
    with pytest.raises(BlockUnavailable), node.ingest() as sink:
        sink.put_many(blocks[1:])
        sink.finish([cid])
    with pytest.raises(BlockUnavailable), node.ingest() as sink:
        sink.finish([], api.NewRoot("x", cid))
    assert node.pin_ls() == []
    assert [info.name for info in node.root_list()] == ["main"]


def test_a_root_is_made_from_what_was_imported(node):
    blocks, cid = blocks_of()
    with node.ingest() as sink:
        sink.put_many(blocks)
        sink.finish([], api.NewRoot("x", cid))
    assert node.root_stat("x").cid == cid
    assert node.pin_ls() == []


@pytest.mark.parametrize("node", ["remote"], indirect=True)
def test_a_client_that_lies_about_a_block_is_refused(node, local):
    honest, _ = blocks_of()
    lie = Block(honest[0].cid, b"something else")
    with pytest.raises(HashMismatch), node.ingest() as sink:
        sink.put_many([lie])
        sink.finish([])
    assert not local.check(ignore).damaged


# -------------------------------------------------------------------------------------- pins


def test_pins_keep_dags_and_rm_lets_them_go(node):
    cid = put(node, pin=False)
    pin = node.pin_add(cid, True, "a note")
    assert pin == api.PinInfo(cid, True, "a note")
    assert node.gc(False, ignore).blocks_removed == 0
    assert node.pin_rm(cid) == pin
    with pytest.raises(NotPinned):
        node.pin_rm(cid)
    dry = node.gc(True, ignore)
    wet = node.gc(False, ignore)
    assert dry.blocks_removed == wet.blocks_removed == len(blocks_of()[0])
    assert (dry.dry_run, wet.dry_run) == (True, False)


def test_a_pin_s_note_has_a_limit(node):
    with pytest.raises(BadName):
        node.pin_add("main", True, "x" * 256)


# ------------------------------------------------------------------------------- maintenance


def test_check_of_a_good_store_is_clean_and_reports_progress(node):
    for number in range(20):
        put(node, bytes([number]) * (1 << 20))
    seen = []
    summary = node.check(seen.append)
    assert not summary.damaged
    assert summary.findings == ()
    assert summary.blocks == node.stats().blocks
    assert seen
    assert all(0 <= report.done <= report.total for report in seen)


def test_stats_are_exact(node):
    before = node.stats()
    assert (before.roots, before.snapshots, before.pins) == (1, 0, 0)
    assert before.device_bytes == SIZE_BYTES
    put(node)
    node.root_snapshot("main", "s")
    after = node.stats()
    assert after.blocks == before.blocks + len(blocks_of()[0])
    assert after.live_bytes - before.live_bytes >= len(DATA)
    assert (after.snapshots, after.pins) == (1, 1)


def test_space_comes_back_by_gc_and_compact(node):
    cids_made = [put(node, bytes([number]) * (3 << 20)) for number in range(8)]
    used = node.stats().used_bytes
    for cid in cids_made:
        node.pin_rm(cid)
    node.gc(False, ignore)
    summary = node.compact(ignore)
    assert node.stats().used_bytes < used
    assert summary.segments_freed >= 0
    assert not node.check(ignore).damaged


def test_a_store_grows_and_shrinks_and_keeps_what_it_holds(node, config):
    cid = put(node)
    seen = []
    for size in (160 << 20, 64 << 20):
        summary = node.resize(size, seen.append)
        assert (summary.store, summary.size_bytes) == (str(config.store), size)
        assert summary.file_fits
        assert config.store.stat().st_size == size
        assert node.stats().segments == summary.segments
        assert summary.free_bytes == node.stats().free_bytes
        assert b"".join(node.cat(f"{cid}/f", 0, None)) == DATA
    assert all(0 <= each.done <= each.total for each in seen)
    assert not node.check(ignore).damaged
    with pytest.raises(SizeTooSmall, match="choose a larger size"):
        node.resize(4096, ignore)


def test_a_resize_takes_what_the_file_has_when_no_size_is_given(node, config):
    os.truncate(config.store, 160 << 20)
    before = node.stats().segments
    summary = node.resize(None, ignore)
    assert (summary.size_bytes, summary.segments_before) == (160 << 20, before)
    assert summary.segments > before


def test_a_tick_gives_dead_space_back_at_its_pace(local):
    put(local)
    rng = random.Random(2)
    dropped = [rng.randbytes(34) for _ in range(60)]
    local._store.put_many((key, rng.randbytes(1 << 20)) for key in dropped)
    local._store.delete_many(dropped)
    dead, free = local.stats().dead_bytes, local.stats().segments_free
    local.compact_due(1000.0)
    assert local.stats().segments_free == free, "nothing was earned yet"
    for second in range(1, 60):
        local.compact_due(1000.0 + second)
    assert local.stats().segments_free >= free + 10
    assert local.stats().dead_bytes < dead / 2
    assert not local.check(ignore).damaged


def test_a_node_without_a_daemon_mounts_nothing(node):
    info = node.info()
    assert not info.daemon
    assert info.mounts == ()
    with pytest.raises(UsageError):
        node.mount("/mnt", "")
    with pytest.raises(UsageError):
        node.umount("/mnt")


# ------------------------------------------------------------------------------- the socket


@pytest.mark.parametrize("node", ["remote"], indirect=True)
def test_the_socket_is_private(node, config):
    path = place_of(config).socket_path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("node", ["remote"], indirect=True)
def test_a_daemon_that_is_gone_is_a_typed_error(node, config):
    other = RemoteNode(place_of(config).directory / "nobody.sock")
    with pytest.raises(ProgramError, match="does not answer"):
        other.info()
    with pytest.raises(ProgramError), other.ingest() as sink:
        for block in blocks_of()[0] * 40:
            sink.put_many([block])
        sink.finish([])
    other.close()


@pytest.mark.parametrize("node", ["remote"], indirect=True)
@pytest.mark.allow_logs("a request failed unexpectedly")
def test_an_unexpected_error_of_the_daemon_is_logged_there_and_typed_here(node, local, monkeypatch):
    def fail(name):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(local.roots, "stat", fail)
    with pytest.raises(ProgramError, match=r"ZeroDivisionError: oops"):
        node.root_stat("main")
    assert node.pin_ls() == [], "the daemon serves on"
