"""Ownership of a store: who has it, what the dead leave, what the living say."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ipfs_mfs.config import Config
from ipfs_mfs.errors import RuntimeDirUnsafe
from ipfs_mfs.owner import State, known_places, place_of

HOLDER = """
import sys
from pathlib import Path
from ipfs_mfs.config import Config
from ipfs_mfs.owner import place_of
lock = place_of(Config(store=Path(sys.argv[1]), runtime_dir=Path(sys.argv[2]))).try_lock()
print("locked" if lock else "refused", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path):
    return Config(store=tmp_path / "store.blk", runtime_dir=tmp_path / "run")


@pytest.fixture
def holder(config):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(config.store), str(config.runtime_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "locked"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_one_store_has_one_place_by_whatever_path(config, tmp_path):
    config.store.touch()
    (tmp_path / "link").symlink_to(config.store)
    other = replace(config, store=tmp_path / "link")
    assert place_of(config).socket_path == place_of(other).socket_path
    third = replace(config, store=tmp_path / "other.blk")
    assert place_of(third).socket_path != place_of(config).socket_path


def test_the_runtime_directory_is_private(config):
    directory = place_of(config).directory
    assert directory.stat().st_mode & 0o777 == 0o700
    directory.chmod(0o755)
    place_of(config)
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_runtime_directory_of_somebody_else_is_refused(config, monkeypatch):
    place_of(config)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(RuntimeDirUnsafe, match="belongs to somebody else"):
        place_of(config)


def test_a_runtime_directory_that_is_a_link_is_refused(config, tmp_path):
    (tmp_path / "target").mkdir()
    config.runtime_dir.symlink_to(tmp_path / "target")
    with pytest.raises(RuntimeDirUnsafe):
        place_of(config)


def test_a_second_process_gets_no_lock_and_sees_the_pid(config, holder):
    place = place_of(config)
    assert place.try_lock() is None
    assert place.owner_pid() == holder.pid


def test_a_killed_owner_leaves_no_lock(config, holder):
    holder.kill()
    holder.wait()
    lock = place_of(config).try_lock()
    assert lock is not None
    lock.release()


def test_waiting_for_a_lock_ends_when_it_is_free_or_the_time_is_over(config, holder):
    place = place_of(config)
    assert place.wait_for_lock(place.lock_path, time.monotonic() + 0.05) is None
    holder.kill()
    holder.wait()
    lock = place.wait_for_lock(place.lock_path, time.monotonic() + 10)
    assert lock is not None
    lock.release()


def test_state_is_read_back_and_removed_with_the_socket(config):
    place = place_of(config)
    assert place.read_state() is None
    state = State(pid=1, store=str(config.store), log="/log", mountpoints=("/a", "/b c"))
    place.write_state(state)
    place.socket_path.touch()
    assert place.read_state() == state
    assert [found.identity for found in known_places(config)] == [place.identity]
    assert place.remove_leavings() == state
    assert place.remove_leavings() is None
    assert not place.socket_path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid":1,"mountpoints":3}'])
def test_a_damaged_state_file_is_as_none(config, text):
    place = place_of(config)
    place.state_path.write_text(text)
    assert place.read_state() is None
    assert known_places(config) == []


def test_a_stale_socket_does_not_answer(config):
    import socket

    place = place_of(config)
    assert not place.answers()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place.socket_path))
        assert not place.answers(), "bound, but nobody listens"
        server.listen()
        assert place.answers()
    assert not place.answers()


def test_releasing_twice_is_harmless(config):
    lock = place_of(config).try_lock()
    assert lock is not None
    lock.release()
    lock.release()
    assert Path(place_of(config).lock_path).exists()
