"""Mounting without libfuse: what the kernel and fusermount3 are told, and what they say."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import kernel_mount, mountpoint
from fusefs.errors import FusermountMissing, MountFailed
from fusefs.options import MountOptions


def test_flags_are_those_of_the_options():
    assert kernel_mount._flags(MountOptions()) == 2 | 4
    everything = MountOptions.parse("ro,suid,dev,noexec,noatime")
    assert kernel_mount._flags(everything) == 1 | 8 | 1024
    assert kernel_mount._flags(MountOptions(cid="bafy")) & 1


def test_source_is_printable_whatever_the_root_is_called():
    assert kernel_mount.source(MountOptions()) == "ipfs-mfs:main"
    assert kernel_mount.source(MountOptions(root="grün")) == "ipfs-mfs:gr\\xfcn"
    assert kernel_mount.source(MountOptions(all_roots=True)) == "ipfs-mfs:all"


def test_without_fusermount3_nobody_but_root_can_mount(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_mount.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(kernel_mount.shutil, "which", lambda _name: None)
    with pytest.raises(FusermountMissing):
        kernel_mount.mount(str(tmp_path), MountOptions())


@contextlib.contextmanager
def mounted(point: Path, options: MountOptions) -> Iterator[mountpoint.MountEntry]:
    descriptor = kernel_mount.mount(str(point), options)
    try:
        assert not os.get_inheritable(descriptor)
        assert stat.S_ISCHR(os.fstat(descriptor).st_mode)
        # Nobody serves it, so it must not be touched: only the table may be asked.
        yield next(entry for entry in mountpoint.mount_table() if entry.path == str(point))
    finally:
        os.close(descriptor)
        kernel_mount.leave(str(point))
    assert mountpoint.find_mount(str(point)) is None


@pytest.mark.needs_root
@pytest.mark.needs_fuse
@pytest.mark.parametrize("uid", [0, 1000])
def test_mount_is_ours_whoever_made_it(tmp_path, monkeypatch, uid):
    """For anybody but root, fusermount3 does it and hands the descriptor over."""
    monkeypatch.setattr(kernel_mount.os, "geteuid", lambda: uid)
    with mounted(tmp_path, MountOptions(root="a,b\\c")) as entry:
        assert entry.fstype == mountpoint.FSTYPE
        assert entry.source == "ipfs-mfs:a,b\\c"


@pytest.mark.needs_root
@pytest.mark.needs_fuse
@pytest.mark.parametrize("uid", [0, 1000])
def test_what_cannot_be_mounted_on_is_named_with_the_reason(tmp_path, monkeypatch, uid):
    (tmp_path / "file").touch()
    monkeypatch.setattr(kernel_mount.os, "geteuid", lambda: uid)
    with pytest.raises(MountFailed, match="missing"):
        kernel_mount.mount(str(tmp_path / "missing"), MountOptions())
    assert mountpoint.find_mount(str(tmp_path / "missing")) is None


@pytest.mark.needs_root
@pytest.mark.needs_fuse
def test_leaving_takes_away_nobody_elses_mount(tmp_path):
    kernel_mount.leave(str(tmp_path))
    kernel_mount.leave("/proc")
    assert mountpoint.find_mount("/proc") is not None


def test_message_without_a_descriptor_is_noticed():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        theirs.send(b"x")
        assert kernel_mount._received(ours) is None
