"""Mount points: the table is read right, and what is in the way is named."""

import errno
import os

import pytest

from fusefs import mountpoint
from fusefs.errors import (
    AllowOtherForbidden,
    AlreadyMounted,
    FuseMissing,
    FusermountMissing,
    MountBusy,
    MountNotPermitted,
    MountPointMissing,
    MountPointNotDirectory,
    MountPointNotEmpty,
    NotMounted,
    StaleMountStuck,
)
from fusefs.mountpoint import MountEntry
from fusefs.options import MountOptions

LINES = (
    rb"22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw" + b"\n"
    rb"40 22 0:45 / /mnt/a\040b rw,nosuid,nodev - fuse.ipfs-mfs ipfs-mfs:main rw,user_id=0" + b"\n"
    rb"41 22 0:46 / /mnt/back\134slash rw master:3 shared:9 - fuse.sshfs host:/x rw" + b"\n"
    b"a line of a later kernel\n"
    b"\n"
)


def test_the_mount_table_is_read_with_its_escapes():
    assert mountpoint.mount_table(LINES) == [
        MountEntry("254:1", "/", "ext4", "/dev/vda1"),
        MountEntry("0:45", "/mnt/a b", "fuse.ipfs-mfs", "ipfs-mfs:main"),
        MountEntry("0:46", "/mnt/back\\slash", "fuse.sshfs", "host:/x"),
    ]


def test_this_machines_table_has_the_root():
    assert mountpoint.find_mount("/") is not None
    assert mountpoint.find_mount("/no/such/mount") is None


def test_the_last_of_several_mounts_at_one_point_is_the_visible_one(monkeypatch):
    entries = [MountEntry("0:1", "/mnt", "ext4", "a"), MountEntry("0:2", "/mnt", "tmpfs", "b")]
    monkeypatch.setattr(mountpoint, "mount_table", lambda: entries)
    found = mountpoint.find_mount("/mnt")
    assert found is not None and found.fstype == "tmpfs"


def test_a_path_is_resolved_without_touching_its_last_part(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert mountpoint.real_path(f"{tmp_path}/link/x/../point") == f"{tmp_path}/real/point"
    assert mountpoint.real_path(f"{tmp_path}/link") == f"{tmp_path}/real"
    assert mountpoint.real_path("/") == "/"


def test_a_missing_mount_point_is_named(tmp_path):
    with pytest.raises(MountPointMissing, match="mkdir -p"):
        mountpoint.check_directory(str(tmp_path / "missing"), nonempty=False)
    (tmp_path / "file").touch()
    with pytest.raises(MountPointMissing):
        mountpoint.check_directory(str(tmp_path / "file" / "below"), nonempty=False)


def test_a_file_is_no_mount_point(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MountPointNotDirectory):
        mountpoint.check_directory(str(tmp_path / "file"), nonempty=False)


def test_a_full_folder_is_a_mount_point_only_when_asked_for(tmp_path):
    mountpoint.check_directory(str(tmp_path), nonempty=False)
    (tmp_path / "hidden-by-a-mount").touch()
    with pytest.raises(MountPointNotEmpty, match="nonempty"):
        mountpoint.check_directory(str(tmp_path), nonempty=False)
    mountpoint.check_directory(str(tmp_path), nonempty=True)


def test_a_folder_nobody_may_reach_is_named(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, "no", path)

    monkeypatch.setattr(mountpoint.Path, "stat", refused)
    with pytest.raises(MountNotPermitted):
        mountpoint.check_directory(str(tmp_path), nonempty=False)


def test_without_the_device_the_fix_is_named(monkeypatch):
    monkeypatch.setattr(mountpoint, "DEVICE", "/dev/no-such-fuse")
    with pytest.raises(FuseMissing, match="modprobe fuse"):
        mountpoint.check_machine(MountOptions())


@pytest.fixture
def as_user(monkeypatch, tmp_path):
    device = tmp_path / "fuse"
    device.touch()
    monkeypatch.setattr(mountpoint, "DEVICE", str(device))
    monkeypatch.setattr(mountpoint.os, "geteuid", lambda: 1000)


def test_a_user_needs_fusermount3(as_user, monkeypatch):
    monkeypatch.setattr(mountpoint.shutil, "which", lambda name: None)
    with pytest.raises(FusermountMissing, match="fuse3"):
        mountpoint.check_machine(MountOptions())


def test_a_user_needs_permission_for_allow_other(as_user, monkeypatch):
    monkeypatch.setattr(mountpoint.shutil, "which", lambda name: "/bin/fusermount3")
    monkeypatch.setattr(mountpoint, "user_allow_other", lambda: False)
    mountpoint.check_machine(MountOptions())
    with pytest.raises(AllowOtherForbidden, match=r"fuse\.conf"):
        mountpoint.check_machine(MountOptions(allow_other=True))
    monkeypatch.setattr(mountpoint, "user_allow_other", lambda: True)
    mountpoint.check_machine(MountOptions(allow_other=True))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("user_allow_other\n", True),
        ("  user_allow_other # yes\nmount_max = 5\n", True),
        ("#user_allow_other\n", False),
        ("user_allow_others\n", False),
        ("", False),
    ],
)
def test_fuse_conf_is_read_like_fusermount_reads_it(tmp_path, text, allowed):
    (tmp_path / "fuse.conf").write_text(text)
    assert mountpoint.user_allow_other(tmp_path / "fuse.conf") is allowed


def test_a_missing_fuse_conf_allows_nothing(tmp_path):
    assert not mountpoint.user_allow_other(tmp_path / "missing")


def ours(point):
    return MountEntry("0:45", point, mountpoint.FSTYPE, "ipfs-mfs:main")


def test_a_living_mount_is_in_the_way_and_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(mountpoint, "check_machine", lambda options: None)
    monkeypatch.setattr(mountpoint, "find_mount", ours)
    monkeypatch.setattr(mountpoint, "detach", lambda point: pytest.fail("detached a living mount"))
    with pytest.raises(AlreadyMounted):
        mountpoint.prepare(str(tmp_path), MountOptions())


def test_another_programs_dead_mount_is_not_ours_to_remove(tmp_path, monkeypatch):
    monkeypatch.setattr(mountpoint, "check_machine", lambda options: None)
    foreign = MountEntry("0:46", str(tmp_path), "fuse.sshfs", "host:")
    monkeypatch.setattr(mountpoint, "find_mount", lambda point: foreign)
    monkeypatch.setattr(mountpoint, "is_dead", lambda point: True)
    monkeypatch.setattr(mountpoint, "detach", lambda point: pytest.fail("detached"))
    with pytest.raises(AlreadyMounted, match=r"fuse\.sshfs"):
        mountpoint.prepare(str(tmp_path), MountOptions())


def test_dead_mounts_of_ours_are_removed_however_many(tmp_path, monkeypatch):
    mounted = [ours(str(tmp_path))._replace(device=f"0:{n}") for n in range(3)]
    monkeypatch.setattr(mountpoint, "check_machine", lambda options: None)
    monkeypatch.setattr(mountpoint, "find_mount", lambda point: mounted[-1] if mounted else None)
    monkeypatch.setattr(mountpoint, "is_dead", lambda point: True)
    monkeypatch.setattr(mountpoint, "detach", lambda point: mounted.pop())
    assert mountpoint.prepare(str(tmp_path), MountOptions()) == str(tmp_path)
    assert not mounted


def test_a_dead_mount_that_stays_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(mountpoint, "find_mount", ours)
    monkeypatch.setattr(mountpoint, "is_dead", lambda point: True)
    monkeypatch.setattr(mountpoint, "detach", lambda point: None)
    with pytest.raises(StaleMountStuck, match="umount -l"):
        mountpoint.remove_dead_mounts(str(tmp_path))


def test_a_mount_that_does_not_answer_is_not_taken_for_dead(monkeypatch):
    blocked, release = os.pipe()
    monkeypatch.setattr(mountpoint, "ANSWER_DEADLINE_S", 0.05)
    monkeypatch.setattr(mountpoint.os, "statvfs", lambda path: os.read(blocked, 1))
    try:
        assert not mountpoint.is_dead("/mnt")
    finally:
        os.write(release, b"x")


def test_only_a_gone_process_is_death(monkeypatch):
    def answer(code):
        def statvfs(path):
            raise OSError(code, "no")

        monkeypatch.setattr(mountpoint.os, "statvfs", statvfs)
        return mountpoint.is_dead("/mnt")

    assert answer(errno.ENOTCONN)
    assert answer(errno.ECONNABORTED)
    assert not answer(errno.EACCES)
    assert not answer(errno.EIO)


@pytest.mark.needs_root
def test_unmounting_what_is_no_mount_is_an_error(tmp_path):
    with pytest.raises(NotMounted):
        mountpoint.unmount(str(tmp_path))
    with pytest.raises(NotMounted):
        mountpoint.unmount(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"fusermount3: failed to unmount /mnt: Device or resource busy", MountBusy),
        (b"fusermount3: entry for /mnt not found in /etc/mtab", NotMounted),
        (b"fusermount3: not mounted", NotMounted),
        (b"fusermount3: mount of /mnt is not allowed", MountNotPermitted),
    ],
)
def test_what_fusermount_says_becomes_a_typed_error(as_user, monkeypatch, said, error):
    class Done:
        returncode = 1
        stderr = said

    monkeypatch.setattr(mountpoint.shutil, "which", lambda name: "/bin/fusermount3")
    monkeypatch.setattr(mountpoint.subprocess, "run", lambda *args, **kwargs: Done)
    with pytest.raises(error):
        mountpoint.unmount("/mnt")


def test_read_ahead_of_something_not_mounted_is_left_alone(tmp_path):
    assert not mountpoint.set_read_ahead(str(tmp_path), 1 << 20)
