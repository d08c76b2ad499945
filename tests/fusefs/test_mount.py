"""A mounted root through the kernel: what programs do to files, and that it all stays.

The cases are those in which mounts of content-addressed stores are known to fail: rewriting a
header, several writers, reading while writing, deleted and renamed open files, mapped files, and
everything that has to be the same after the next mount.
"""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import shutil
import socket
import sqlite3
import stat as modes
import subprocess
import sys
import threading
import time

import pytest

from ipld import cid as cids
from ipld import filedag
from ipld.profile import UNIXFS_V1_2025

pytestmark = pytest.mark.needs_fuse

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
needs_root = pytest.mark.needs_root


def listing(path):
    return sorted(entry.name for entry in path.iterdir())


def fails(code, function, *args):
    with pytest.raises(OSError) as caught:
        function(*args)
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def cid_of(path):
    return os.getxattr(path, "ipfs.cid").decode()


def expected_cid(content):
    return cids.to_text(filedag.add_bytes(content, UNIXFS_V1_2025, lambda block: None).cid)


def renameat2(source, target, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags)
    if done != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(source))


def noise(seed, length):
    return random.Random(seed).randbytes(length)


# ---------------------------------------------------------------------------- file content


@pytest.mark.parametrize("body", [1_000, 100_000, 1_900_000, 3_000_000])
def test_a_header_rewritten_before_close_is_overwritten_and_not_appended(mnt, body):
    content = noise(body, body)
    with (mnt / "file").open("wb", buffering=0) as file:
        file.write(b"HDR0")
        for start in range(0, body, 65_536):
            file.write(content[start : start + 65_536])
        file.seek(0)
        file.write(b"HDR1")
    assert (mnt / "file").read_bytes() == b"HDR1" + content
    assert cid_of(mnt / "file") == expected_cid(b"HDR1" + content)


def test_the_size_of_an_open_file_is_true_all_the_time(mnt):
    with (mnt / "file").open("wb", buffering=0) as file:
        file.write(b"x" * 5_000)
        assert os.fstat(file.fileno()).st_size == 5_000
        time.sleep(2.2)
        assert os.fstat(file.fileno()).st_size == 5_000
        assert (mnt / "file").stat().st_size == 5_000


def test_two_writers_on_one_file_see_each_other(mnt):
    with (
        (mnt / "file").open("w+b", buffering=0) as one,
        (mnt / "file").open("r+b", buffering=0) as two,
    ):
        one.write(b"one---")
        two.seek(3)
        two.write(b"two")
        one.seek(0)
        assert one.read() == b"onetwo"
    assert (mnt / "file").read_bytes() == b"onetwo"


def test_a_reader_sees_later_writes(mnt):
    with (
        (mnt / "log").open("wb", buffering=0) as writer,
        (mnt / "log").open("rb", buffering=0) as reader,
    ):
        for number in range(5):
            line = b"line %d\n" % number
            writer.write(line)
            assert reader.read() == line


def test_a_deleted_open_file_is_read_and_written_to_the_end(mnt):
    with (mnt / "file").open("w+b", buffering=0) as file:
        file.write(b"before")
        (mnt / "file").unlink()
        assert not (mnt / "file").exists()
        file.write(b" and after")
        file.seek(0)
        assert file.read() == b"before and after"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert listing(mnt) == []


def test_an_open_file_stays_itself_when_its_name_is_replaced(mnt):
    (mnt / "new").write_text("new")
    with (mnt / "file").open("w+b", buffering=0) as file:
        file.write(b"old")
        (mnt / "new").rename(mnt / "file")
        file.write(b" more")
        file.seek(0)
        assert file.read() == b"old more"
        assert (mnt / "file").read_text() == "new"


def test_writes_go_on_through_a_rename_of_the_file_and_of_its_parent(mnt):
    (mnt / "d").mkdir()
    with (mnt / "d" / "a").open("wb", buffering=0) as file:
        file.write(b"one ")
        (mnt / "d" / "a").rename(mnt / "d" / "b")
        file.write(b"two ")
        (mnt / "d").rename(mnt / "e")
        file.write(b"three")
    assert (mnt / "e" / "b").read_bytes() == b"one two three"


def test_a_shared_mapping_reads_and_writes_the_file(mnt):
    with (mnt / "file").open("w+b", buffering=0) as file:
        file.write(b"\0" * 100_000)
        with mmap.mmap(file.fileno(), 100_000) as mapped:
            mapped[10:15] = b"hello"
            mapped[99_990:99_995] = b"world"
            mapped.flush()
            file.seek(10)
            assert file.read(5) == b"hello"
            file.seek(50_000)
            file.write(b"seen")
            assert mapped[50_000:50_004] == b"seen"
    content = (mnt / "file").read_bytes()
    assert content[10:15] == b"hello" and content[99_990:99_995] == b"world"
    assert cid_of(mnt / "file") == expected_cid(content)


def test_a_private_mapping_leaves_the_file_alone(mnt):
    (mnt / "file").write_bytes(b"x" * 8192)
    with (
        (mnt / "file").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped,
    ):
        mapped[0:1] = b"y"
    assert (mnt / "file").read_bytes() == b"x" * 8192


def test_a_program_runs_from_the_mount(mnt):
    shutil.copy("/bin/true", mnt / "program")
    assert subprocess.run([mnt / "program"], check=False).returncode == 0


def test_direct_reads_and_writes_are_right(mnt):
    content = noise(1, 64 << 10)
    descriptor = os.open(mnt / "file", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    with mmap.mmap(-1, len(content)) as buffer:
        buffer[:] = content
        assert os.write(descriptor, buffer) == len(content)
        buffer[:] = bytes(len(content))
        assert os.preadv(descriptor, [buffer], 0) == len(content)
        assert buffer[:] == content
    os.close(descriptor)


def test_a_large_file_is_the_same_by_every_way_of_reading(mnt):
    content = noise(2, 5 << 20)
    (mnt / "file").write_bytes(content)
    assert hashlib.sha256((mnt / "file").read_bytes()).digest() == hashlib.sha256(content).digest()
    with (mnt / "file").open("rb", buffering=0) as file:
        for _ in range(200):
            offset = random.Random(3).randrange(len(content))
            assert os.pread(file.fileno(), 4096, offset) == content[offset : offset + 4096]
    assert cid_of(mnt / "file") == expected_cid(content)


def test_a_tebibyte_of_nothing_is_made_at_once_and_reads_as_zeros(mnt):
    started = time.monotonic()
    subprocess.run(["truncate", "-s", "1T", mnt / "file"], check=True)
    assert time.monotonic() - started < 2
    with (mnt / "file").open("r+b", buffering=0) as file:
        assert os.fstat(file.fileno()).st_size == 1 << 40
        assert os.pread(file.fileno(), 10, 1 << 39) == bytes(10)
        os.pwrite(file.fileno(), b"far out", 1 << 39)
        assert os.pread(file.fileno(), 9, (1 << 39) - 1) == b"\0far out\0"
        os.ftruncate(file.fileno(), 3)
    assert (mnt / "file").read_bytes() == bytes(3)


def test_holes_read_as_zeros_and_have_the_cid_of_zeros(mnt):
    with (mnt / "file").open("wb") as file:
        file.seek(2_500_000)
        file.write(b"end")
    content = bytes(2_500_000) + b"end"
    assert (mnt / "file").read_bytes() == content
    assert cid_of(mnt / "file") == expected_cid(content)


def test_truncation_both_ways_cuts_and_fills_with_zeros(mnt):
    (mnt / "file").write_bytes(b"0123456789")
    os.truncate(mnt / "file", 4)
    os.truncate(mnt / "file", 8)
    assert (mnt / "file").read_bytes() == b"0123\0\0\0\0"


def test_appends_of_several_processes_lose_nothing(mnt):
    program = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "for _ in range(200): os.write(fd, sys.argv[2].encode() * 50 + b'\\n')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, mnt / "log", letter]) for letter in "abcd"
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = (mnt / "log").read_text().splitlines()
    assert sorted(lines) == sorted([letter * 50 for letter in "abcd"] * 200)


def test_opening_with_truncation_empties_the_file(mnt):
    (mnt / "file").write_bytes(b"long content")
    (mnt / "file").write_bytes(b"short")
    assert (mnt / "file").read_bytes() == b"short"


def test_exclusive_creation_happens_once(mnt):
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    made, refused = [], []

    def create():
        try:
            made.append(os.open(mnt / "lock", flags))
        except FileExistsError:
            refused.append(True)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    os.close(made[0])


def test_locks_between_processes_conflict(mnt):
    with (mnt / "file").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        taken = subprocess.run(["flock", "-n", mnt / "file", "true"], check=False)
        assert taken.returncode == 1
    assert subprocess.run(["flock", "-n", mnt / "file", "true"], check=False).returncode == 0


# --------------------------------------------------------------------------------- names


def test_exchange_swaps_and_noreplace_refuses(mnt):
    (mnt / "a").write_text("A")
    (mnt / "d").mkdir()
    (mnt / "d" / "b").write_text("B")
    renameat2(mnt / "a", mnt / "d" / "b", RENAME_EXCHANGE)
    assert ((mnt / "a").read_text(), (mnt / "d" / "b").read_text()) == ("B", "A")
    fails(errno.EEXIST, renameat2, mnt / "a", mnt / "d" / "b", RENAME_NOREPLACE)
    assert ((mnt / "a").read_text(), (mnt / "d" / "b").read_text()) == ("B", "A")
    renameat2(mnt / "a", mnt / "c", RENAME_NOREPLACE)
    assert (mnt / "c").read_text() == "B"
    renameat2(mnt / "c", mnt / "d", RENAME_EXCHANGE)
    assert (mnt / "c").is_dir() and (mnt / "d").read_text() == "B"


def test_a_directory_is_renamed_over_an_empty_one_only(mnt):
    for name in ("a", "empty", "full"):
        (mnt / name).mkdir()
    (mnt / "full" / "file").touch()
    fails(errno.ENOTEMPTY, os.rename, mnt / "a", mnt / "full")
    fails(errno.EINVAL, os.rename, mnt / "full", mnt / "full" / "below")
    (mnt / "a").rename(mnt / "empty")
    assert listing(mnt) == ["empty", "full"]


def test_removing_says_what_is_wrong(mnt):
    (mnt / "d").mkdir()
    (mnt / "d" / "file").touch()
    fails(errno.ENOTEMPTY, os.rmdir, mnt / "d")
    fails(errno.ENOTDIR, os.rmdir, mnt / "d" / "file")
    fails(errno.EISDIR, os.unlink, mnt / "d")
    fails(errno.ENOENT, os.unlink, mnt / "missing")
    fails(errno.EEXIST, os.mkdir, mnt / "d")


def test_hard_links_are_one_file(mnt):
    (mnt / "a").write_text("first")
    os.link(mnt / "a", mnt / "b")
    assert (mnt / "a").stat().st_nlink == (mnt / "b").stat().st_nlink == 2
    assert (mnt / "a").samefile(mnt / "b")
    (mnt / "b").write_text("second")
    assert (mnt / "a").read_text() == "second"
    (mnt / "a").unlink()
    assert (mnt / "b").read_text() == "second" and (mnt / "b").stat().st_nlink == 1
    (mnt / "d").mkdir()
    fails(errno.EPERM, os.link, mnt / "d", mnt / "e")


def test_symlinks_lead_and_dangle(mnt):
    (mnt / "d").mkdir()
    (mnt / "d" / "file").write_text("content")
    (mnt / "link").symlink_to("d/file")
    (mnt / "dangling").symlink_to("nowhere")
    assert (mnt / "link").read_text() == "content"
    assert os.readlink(mnt / "dangling") == "nowhere"  # noqa: PTH115  # the call itself
    assert (mnt / "link").lstat().st_size == 6
    long = "x" * 4095
    (mnt / "long").symlink_to(long)
    assert os.readlink(mnt / "long") == long  # noqa: PTH115  # the call itself


def test_any_bytes_are_a_name_up_to_255(mnt):
    top = os.fsencode(mnt)
    names = [b"\xff\xfe not utf-8", b"n" * 255, "ñ日本".encode(), b" ", b"-rf", b"a\nb", b"\x01"]
    for name in names:
        with open(top + b"/" + name, "wb") as file:  # noqa: PTH123  # Path has no bytes
            file.write(name)
    assert sorted(os.listdir(top)) == sorted(names)  # noqa: PTH208  # Path has no bytes
    for name in names:
        with open(top + b"/" + name, "rb") as file:  # noqa: PTH123  # Path has no bytes
            assert file.read() == name


@pytest.mark.parametrize(
    "call",
    [
        lambda path: path.touch(),
        lambda path: path.mkdir(),
        lambda path: path.stat(),
        lambda path: path.symlink_to("x"),
        lambda path: os.mkfifo(path),
        lambda path: path.unlink(),
        lambda path: path.rmdir(),
        lambda path: (path.parent / "file").rename(path),
        lambda path: os.link(path.parent / "file", path),
    ],
)
def test_256_bytes_are_too_long_a_name_for_everything(mnt, call):
    (mnt / "file").touch()
    fails(errno.ENAMETOOLONG, call, mnt / ("n" * 256))


@needs_root
def test_special_files_are_what_they_were_made(mnt):
    os.mkfifo(mnt / "fifo", 0o640)
    os.mknod(mnt / "null", modes.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(mnt)
        bound.bind("socket")
        os.chdir("/")
    assert modes.S_ISFIFO((mnt / "fifo").stat().st_mode)
    assert (mnt / "null").stat().st_rdev == os.makedev(1, 3)
    assert modes.S_ISSOCK((mnt / "socket").stat().st_mode)
    fails(errno.ENODATA, os.getxattr, mnt / "fifo", "ipfs.cid")
    done = subprocess.Popen(["sh", "-c", f"echo through > {mnt}/fifo"])
    assert (mnt / "fifo").read_text() == "through\n"
    assert done.wait() == 0


def test_a_directory_being_listed_while_it_changes_loses_nothing(mnt):
    names = {f"f{number:04}" for number in range(500)}
    for name in names:
        (mnt / name).touch()
    seen = set()
    with os.scandir(mnt) as entries:
        for number, entry in enumerate(entries):
            seen.add(entry.name)
            if number % 10 == 0:
                (mnt / f"g{number:04}").touch()
    assert names <= seen


def test_a_working_directory_that_was_removed_answers(mnt):
    (mnt / "d").mkdir()
    program = "import os; os.rmdir(os.getcwd()); print(os.stat('.').st_nlink, os.listdir('.'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=mnt / "d",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0 []\n"
    assert listing(mnt) == []


# ------------------------------------------------------------------------- owners and times


def test_new_files_and_directories_have_the_mode_that_was_asked_for(mnt):
    descriptor = os.open(mnt / "file", os.O_CREAT | os.O_WRONLY, 0o640)
    os.close(descriptor)
    (mnt / "d").mkdir(mode=0o750)
    assert modes.S_IMODE((mnt / "file").stat().st_mode) == 0o640
    assert modes.S_IMODE((mnt / "d").stat().st_mode) == 0o750


def test_times_are_kept_to_the_nanosecond(mnt):
    (mnt / "file").touch()
    os.utime(mnt / "file", ns=(1_000_000_000_123_456_789, 2_000_000_000_987_654_321))
    assert (mnt / "file").stat().st_atime_ns == 1_000_000_000_123_456_789
    assert (mnt / "file").stat().st_mtime_ns == 2_000_000_000_987_654_321
    os.utime(mnt / "file", ns=(-1, -1_500_000_000))
    assert (mnt / "file").stat().st_mtime_ns == -1_500_000_000


def test_a_directorys_time_moves_with_its_entries(mnt):
    (mnt / "d").mkdir()
    os.utime(mnt / "d", ns=(0, 0))
    (mnt / "d" / "file").touch()
    assert (mnt / "d").stat().st_mtime_ns > 0
    assert (mnt / "d").stat().st_nlink == 2
    (mnt / "d" / "sub").mkdir()
    assert (mnt / "d").stat().st_nlink == 3


def as_user(*command, cwd="/"):
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


@needs_root
def test_modes_and_owners_are_enforced(mnt):
    (mnt / "secret").write_text("x")
    (mnt / "secret").chmod(0o600)
    assert "Permission denied" in as_user("cat", mnt / "secret").stderr
    os.chown(mnt / "secret", 65534, 65534)
    assert as_user("cat", mnt / "secret").stdout == "x"
    assert as_user("touch", mnt / "new").returncode == 1
    mnt.chmod(0o1777)
    assert as_user("touch", mnt / "new").returncode == 0
    assert (mnt / "new").stat().st_uid == 65534
    assert as_user("rm", "-f", mnt / "secret").returncode == 0
    assert as_user("chown", "0", mnt / "new").returncode == 1


@needs_root
def test_a_users_write_takes_set_id_bits_away_and_the_kernel_knows(mnt):
    (mnt / "program").write_bytes(b"#!/bin/true\n")
    os.chown(mnt / "program", 65534, 65534)
    (mnt / "program").chmod(0o6775)
    assert as_user("sh", "-c", f"echo x >> {mnt}/program").returncode == 0
    assert modes.S_IMODE((mnt / "program").stat().st_mode) == 0o775
    (mnt / "program").chmod(0o6775)
    assert as_user("truncate", "-s", "3", mnt / "program").returncode == 0
    assert modes.S_IMODE((mnt / "program").stat().st_mode) == 0o775
    (mnt / "program").chmod(0o6775)
    os.chown(mnt / "program", 0, 0)
    assert modes.S_IMODE((mnt / "program").stat().st_mode) == 0o775


@needs_root
def test_a_set_group_id_directory_hands_its_group_down(mnt):
    (mnt / "d").mkdir()
    os.chown(mnt / "d", 0, 1234)
    (mnt / "d").chmod(0o2777)
    as_user("mkdir", mnt / "d" / "sub")
    as_user("touch", mnt / "d" / "file")
    assert (mnt / "d" / "file").stat().st_gid == 1234
    assert (mnt / "d" / "sub").stat().st_gid == 1234
    assert (mnt / "d" / "sub").stat().st_mode & modes.S_ISGID


# --------------------------------------------------------------------- extended attributes


def test_attributes_are_set_replaced_and_removed(mnt):
    path = mnt / "file"
    path.touch()
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    fails(errno.EEXIST, os.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"2", os.XATTR_REPLACE)
    fails(errno.ENODATA, os.setxattr, path, "user.b", b"2", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.a") == b"2"
    assert os.listxattr(path) == ["user.a"]
    os.removexattr(path, "user.a")
    fails(errno.ENODATA, os.getxattr, path, "user.a")
    fails(errno.ENODATA, os.removexattr, path, "user.a")
    fails(errno.EOPNOTSUPP, os.setxattr, path, "nonsense.a", b"x")


def test_facts_are_there_and_in_nobodys_way(mnt):
    (mnt / "d").mkdir()
    (mnt / "d" / "file").write_bytes(b"hello")
    assert cid_of(mnt / "d" / "file") == expected_cid(b"hello")
    for path in (mnt, mnt / "d", mnt / "d" / "file"):
        assert os.listxattr(path) == []
        assert os.getxattr(path, "ipfs.root") == b"main"
        assert int(os.getxattr(path, "ipfs.dagsize")) > 0
        assert cid_of(path).startswith("bafy" if path.is_dir() else "bafk")
        fails(errno.EPERM, os.setxattr, path, "ipfs.cid", b"x")
    before = cid_of(mnt)
    (mnt / "d" / "file").write_bytes(b"changed")
    assert cid_of(mnt) != before
    (mnt / "d" / "file").write_bytes(b"hello")
    assert cid_of(mnt) == before


def test_looking_at_things_never_changes_a_cid(mnt):
    (mnt / "d").mkdir()
    (mnt / "d" / "file").write_bytes(b"hello")
    before = cid_of(mnt)
    subprocess.run(["ls", "-laR", mnt], check=True, stdout=subprocess.DEVNULL)
    (mnt / "d" / "file").read_bytes()
    os.utime(mnt / "d" / "file")
    assert cid_of(mnt) == before


# -------------------------------------------------------------------------------- programs


def test_editors_and_copiers_save_their_ways(mnt):
    target = mnt / "document"
    target.write_text("version 1")
    # vim: the old file becomes the backup, a new one takes its name, the backup goes.
    inode = target.stat().st_ino
    target.rename(mnt / "document~")
    with target.open("w") as file:
        file.write("version 2")
        file.flush()
        os.fsync(file.fileno())
    (mnt / "document~").unlink()
    assert target.stat().st_ino != inode
    # rsync and most others: a temporary name, modes and times, then a rename over the target.
    temporary = mnt / ".document.Xy12Zz"
    temporary.write_text("version 3")
    temporary.chmod(0o644)
    os.utime(temporary, ns=(5, 7))
    temporary.rename(target)
    assert target.read_text() == "version 3"
    assert target.stat().st_mtime_ns == 7
    assert listing(mnt) == ["document"]


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed")
def test_rsync_finds_nothing_to_do_the_second_time(mnt, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"f{number}").write_bytes(noise(number, number * 1000))
    (source / "link").symlink_to("f3")
    os.link(source / "f4", source / "f4-again")
    for _ in range(2):
        done = subprocess.run(
            ["rsync", "-aHX", "--itemize-changes", f"{source}/", f"{mnt}/copy/"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == ""
    assert subprocess.run(["diff", "-r", source, mnt / "copy"], check=False).returncode == 0
    subprocess.run(["cp", "-a", mnt / "copy", mnt / "again"], check=True)
    assert cid_of(mnt / "copy") == cid_of(mnt / "again")


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_sqlite_keeps_a_sound_database_with_two_connections(mnt, journal):
    with sqlite3.connect(mnt / "data.db", isolation_level=None) as first:
        assert first.execute(f"PRAGMA journal_mode={journal}").fetchone()[0] == journal.lower()
        first.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, value BLOB)")
        second = sqlite3.connect(mnt / "data.db", isolation_level=None, timeout=20)
        for number in range(40):
            writer = (first, second)[number % 2]
            writer.execute("INSERT INTO entries VALUES (?, ?)", (number, noise(number, 2000)))
        with pytest.raises(ZeroDivisionError), first:
            first.execute("BEGIN")
            first.execute("DELETE FROM entries")
            raise ZeroDivisionError
        assert second.execute("SELECT count(*) FROM entries").fetchone() == (40,)
        assert second.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        second.close()
    first.close()


# ------------------------------------------------------------------------ after the next mount


def snapshot_of(top):
    """Everything a stat and a read tell about a tree, but the times of access."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118  # str in and out
            stat = os.lstat(path)  # as above
            content = b""
            if modes.S_ISREG(stat.st_mode):
                with open(path, "rb") as file:  # noqa: PTH123  # as above
                    content = hashlib.sha256(file.read()).digest()
            elif modes.S_ISLNK(stat.st_mode):
                content = os.readlink(path).encode()  # noqa: PTH115  # as above
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            found[os.path.relpath(path, top)] = (
                stat.st_ino,
                stat.st_mode,
                stat.st_nlink,
                stat.st_uid,
                stat.st_gid,
                stat.st_size,
                stat.st_rdev,
                stat.st_mtime_ns,
                stat.st_ctime_ns,
                content,
                attributes,
            )
    return found


def populate(top):
    (top / "d" / "e").mkdir(parents=True)
    for number in range(30):
        (top / "d" / f"f{number}").write_bytes(noise(number, number * 3000))
    (top / "d" / "large").write_bytes(noise(99, 3 << 20))
    (top / "d" / "f1").chmod(0o4711)
    if os.geteuid() == 0:
        os.chown(top / "d" / "f2", 1234, 5678)
        os.mkfifo(top / "d" / "fifo")
    os.utime(top / "d" / "f3", ns=(11, 22))
    os.link(top / "d" / "f4", top / "d" / "e" / "hard")
    (top / "d" / "e" / "soft").symlink_to("../f5")
    os.setxattr(top / "d" / "f6", "user.colour", b"green")
    os.truncate(top / "d" / "f7", 1 << 33)
    os.truncate(top / "d" / "f7", 70_000)
    (top / "d" / "f8").unlink()
    (top / "d" / "f9").rename(top / "d" / "e" / "moved")


def test_everything_is_the_same_after_the_next_mount(mounts):
    first = mounts.mount()
    populate(first.point)
    before, cid = snapshot_of(first.point), cid_of(first.point)
    assert first.terminate() == "ended"
    second = mounts.mount()
    assert snapshot_of(second.point) == before
    assert cid_of(second.point) == cid
    assert second.terminate() == "ended"


def test_what_was_synced_survives_the_death_of_the_daemon(mounts):
    first = mounts.mount()
    populate(first.point)
    for path in (first.point / "d" / "large", first.point / "d"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    before = snapshot_of(first.point)
    first.kill()
    second = mounts.mount()
    assert snapshot_of(second.point) == before
    assert second.terminate() == "ended"


def test_a_saved_file_is_old_or_new_after_the_death_of_the_daemon(mounts):
    server = mounts.mount()
    (server.point / "document").write_text("old")
    subprocess.run(["sync", server.point / "document"], check=True)
    (server.point / "temporary").write_text("new")
    subprocess.run(["sync", server.point / "temporary"], check=True)
    (server.point / "temporary").rename(server.point / "document")
    subprocess.run(["sync", server.point], check=True)
    server.kill()
    server = mounts.mount()
    assert (server.point / "document").read_text() == "new"
    assert listing(server.point) == ["document"]


def test_a_database_survives_the_death_of_the_daemon(mounts):
    # EXTRA, because FULL does not sync the removal of the journal, which is what commits.
    server = mounts.mount()
    program = (
        "import sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA journal_mode=DELETE')\n"
        "database.execute('PRAGMA synchronous=EXTRA')\n"
        "database.execute('CREATE TABLE entries (number INTEGER)')\n"
        "for number in range(100000):\n"
        "    database.execute('INSERT INTO entries VALUES (?)', (number,))\n"
        "    print(number, flush=True)\n"
    )
    acknowledged = -1
    with subprocess.Popen(
        [sys.executable, "-c", program, server.point / "data.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged == 60:
                server.kill()
    server = mounts.mount()
    with sqlite3.connect(server.point / "data.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (count,) = database.execute("SELECT count(*) FROM entries").fetchone()
        assert count >= acknowledged + 1
    database.close()


def test_an_external_unmount_under_way_keeps_what_was_acknowledged(mounts):
    server = mounts.mount()
    populate(server.point)
    before = snapshot_of(server.point)
    tool = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    subprocess.run([*tool, server.point], check=True)
    assert server.wait_ended() == "ended"
    server = mounts.mount()
    assert snapshot_of(server.point) == before


# -------------------------------------------------------------------- roots and snapshots


def test_a_snapshot_is_there_unlisted_and_read_only(mounts):
    server = mounts.mount()
    mnt = server.point
    (mnt / "file").write_text("monday")
    server.ask("roots.snapshot('main', 'monday') and None")
    (mnt / "file").write_text("tuesday")
    past = mnt / ".snapshots" / "monday"
    assert (past / "file").read_text() == "monday"
    assert (mnt / "file").read_text() == "tuesday"
    assert listing(mnt) == ["file"]
    assert listing(mnt / ".snapshots") == ["monday"]
    fails(errno.EROFS, (past / "new").touch)
    fails(errno.EROFS, (past / "file").write_text, "x")
    fails(errno.EROFS, (past / "file").unlink)
    assert os.getxattr(past, "ipfs.root") == b"main@monday"
    fails(errno.EPERM, (mnt / ".snapshots" / "tuesday").mkdir)


def test_a_restored_root_is_seen_at_once_through_the_mount(mounts):
    server = mounts.mount()
    mnt = server.point
    (mnt / "d").mkdir()
    (mnt / "d" / "file").write_text("monday")
    server.ask("roots.snapshot('main', 'monday') and None")
    (mnt / "d" / "file").write_text("tuesday, and longer")
    (mnt / "new").touch()
    assert (mnt / "d" / "file").read_text() == "tuesday, and longer"
    server.ask("change = mount.changing('main')")
    server.ask("change.__enter__()")
    server.ask("roots.restore('main', 'monday') and None")
    server.ask("change.__exit__(None, None, None)")
    assert (mnt / "d" / "file").read_text() == "monday"
    assert listing(mnt) == ["d"]
    assert (mnt / "d" / "file").stat().st_size == 6


def test_all_roots_in_one_mount(mounts):
    server = mounts.mount("all")
    server.ask("from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025")
    server.ask("roots.create('photos', UNIXFS_V0_2015) and None")
    top = server.point
    assert listing(top) == ["main", "photos"]
    (top / "main" / "file").write_text("x")
    (top / "photos" / "file").write_text("x")
    assert cid_of(top / "main" / "file").startswith("baf")
    assert cid_of(top / "photos" / "file").startswith("Qm")
    fails(errno.EXDEV, os.rename, top / "main" / "file", top / "photos" / "moved")
    fails(errno.EPERM, (top / "new").mkdir)
    fails(errno.EPERM, os.rmdir, top / "photos")
    inode = (top / "photos" / "file").stat().st_ino
    assert server.terminate() == "ended"
    server = mounts.mount("all")
    assert (top / "photos" / "file").stat().st_ino == inode
    assert server.terminate() == "ended"
    server = mounts.mount("root=photos")
    assert (top / "file").read_text() == "x"


def test_a_cid_is_mounted_read_only(mounts):
    server = mounts.mount()
    (server.point / "d").mkdir()
    (server.point / "d" / "file").write_text("x")
    cid = cid_of(server.point / "d")
    assert server.terminate() == "ended"
    server = mounts.mount(f"cid={cid}")
    assert (server.point / "file").read_text() == "x"
    assert cid_of(server.point) == cid
    fails(errno.EROFS, (server.point / "new").touch)
