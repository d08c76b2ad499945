"""The way to the store: own it for a moment, wait for who has it, clean up after the dead."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ipfs_mfs import connect
from ipfs_mfs.config import Config
from ipfs_mfs.errors import StoreInUse, StoreMissing, WrongKind
from ipfs_mfs.formatting import format_store
from ipfs_mfs.node import Node
from ipfs_mfs.owner import State, place_of
from ipfs_mfs.sizes import size_text


@pytest.fixture
def config(tmp_path):
    made = Config(
        store=tmp_path / "store.blk",
        runtime_dir=tmp_path / "run",
        log_dir=tmp_path / "log",
        busy_wait_s=0.2,
    )
    format_store(made, size_bytes=64 << 20, force=False)
    return made


def test_a_free_store_is_opened_here_and_free_again_afterwards(config):
    node = connect.connect(config)
    assert isinstance(node, Node)
    assert place_of(config).try_lock() is None
    node.close()
    lock = place_of(config).try_lock()
    assert lock is not None
    lock.release()


def test_a_missing_store_is_named_and_the_ownership_given_back(config, tmp_path):
    missing = replace(config, store=tmp_path / "missing.blk")
    for _ in range(2):
        with pytest.raises(StoreMissing, match=r"missing\.blk: there is no store"):
            connect.connect(missing)


def test_a_folder_is_no_store(config, tmp_path):
    with pytest.raises(WrongKind):
        connect.connect(replace(config, store=tmp_path))


def test_a_command_waits_for_another_short_one(config):
    patient = replace(config, busy_wait_s=10.0)
    lock = place_of(config).try_lock()
    assert lock is not None
    timer = threading.Timer(0.3, lock.release)
    timer.start()
    started_s = time.monotonic()
    connect.connect(patient).close()
    assert 0.25 < time.monotonic() - started_s < 8
    timer.join()


def test_a_command_does_not_wait_for_ever(config):
    lock = place_of(config).try_lock()
    assert lock is not None
    with pytest.raises(StoreInUse, match="is in use by process"):
        connect.connect(config)
    with pytest.raises(StoreInUse):
        connect.lock_store(config, place_of(config))
    lock.release()


def test_many_commands_at_once_take_turns(config):
    patient = replace(config, busy_wait_s=30.0)

    def create(number):
        node = connect.connect(patient)
        try:
            node.root_create(f"r{number}", None, None, None)
        finally:
            node.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(create, range(12)))
    node = connect.connect(config)
    assert len(node.root_list()) == 13
    node.close()


def test_what_a_dead_owner_left_is_removed_by_the_next_one(config):
    place = place_of(config)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place.socket_path))
    place.write_state(State(99999999, str(config.store), "/log", ("/nowhere",)))
    connect.connect(config).close()
    assert not place.socket_path.exists()
    assert place.read_state() is None


def test_a_failed_open_gives_the_ownership_back(config):
    config.store.write_bytes(bytes(64 << 20))
    for _ in range(2):
        with pytest.raises(Exception, match="not a store"):
            connect.connect(config)


def test_a_failed_format_leaves_no_file_and_no_ownership(config, tmp_path):
    small = replace(config, store=tmp_path / "small.blk")
    for _ in range(2):
        with pytest.raises(Exception, match=r"small\.blk"):
            format_store(small, size_bytes=1 << 16, force=False)
        assert not small.store.exists()


def test_formatting_makes_the_root_with_the_configured_profile(config, tmp_path):
    old = replace(config, store=tmp_path / "old.blk", profile="unixfs-v0-2015")
    made = format_store(old, size_bytes=64 << 20, force=False)
    assert made.cid == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    assert made.device_bytes == 64 << 20
    assert size_text(made.device_bytes) == "64.0 MiB"
