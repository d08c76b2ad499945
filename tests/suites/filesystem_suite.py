"""What a file system does, for every way to reach one: the tree in this process, and real mounts.

A driver has the methods of `os` that the cases need, on absolute paths below its top, and raises
OSError with the errno. A test module gives the class `FilesystemSuite` a fixture `fs` with a fresh,
empty file system, and inherits from it:

    class TestOnTree(FilesystemSuite):
        @pytest.fixture
        def fs(self): ...

Cases come from POSIX, from what pjdfstest and Kubo's own mount tests look at, and from the faults
of other mounts. Permissions are the kernel's and are not tested here.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import threading
from contextlib import contextmanager
from typing import Protocol

import pytest

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
MIB = 1 << 20


class Driver(Protocol):
    """A file system and how to call it. Paths are absolute bytes; sizes and offsets bytes."""

    chunk_size_bytes: int
    """Where leaves end, so that cases can go across."""

    def open(self, path: bytes, flags: int, mode: int = 0o644) -> int: ...
    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, length: int, offset: int) -> bytes: ...
    def pwrite(self, fd: int, data: bytes, offset: int) -> int: ...
    def write(self, fd: int, data: bytes) -> int:
        """At the descriptor's own position, or at the end with O_APPEND."""

    def ftruncate(self, fd: int, size: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def fstat(self, fd: int) -> os.stat_result: ...
    def stat(self, path: bytes) -> os.stat_result: ...
    def lstat(self, path: bytes) -> os.stat_result: ...
    def truncate(self, path: bytes, size: int) -> None: ...
    def mkdir(self, path: bytes, mode: int = 0o755) -> None: ...
    def rmdir(self, path: bytes) -> None: ...
    def unlink(self, path: bytes) -> None: ...
    def rename(self, source: bytes, target: bytes, flags: int = 0) -> None:
        """renameat2(2)."""

    def link(self, source: bytes, target: bytes) -> None: ...
    def symlink(self, target: bytes, path: bytes) -> None: ...
    def readlink(self, path: bytes) -> bytes: ...
    def mknod(self, path: bytes, mode: int, device: int = 0) -> None: ...
    def chmod(self, path: bytes, mode: int) -> None: ...
    def chown(self, path: bytes, uid: int, gid: int) -> None: ...
    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None: ...
    def listdir(self, path: bytes) -> list[bytes]: ...
    def getxattr(self, path: bytes, name: bytes) -> bytes: ...
    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int = 0) -> None: ...
    def listxattr(self, path: bytes) -> list[bytes]: ...
    def removexattr(self, path: bytes, name: bytes) -> None: ...
    def statvfs(self) -> os.statvfs_result: ...
    def remount(self) -> None:
        """A clean restart of everything; descriptors are closed before."""

    def cid(self, path: bytes) -> bytes:
        """The CID of what a path names, as of now."""


@contextmanager
def fails_with(number: int):
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number, caught.value


def write_file(fs: Driver, path: bytes, data: bytes = b"") -> None:
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        assert fs.pwrite(fd, data, 0) == len(data)
    finally:
        fs.close(fd)


def read_file(fs: Driver, path: bytes) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.pread(fd, fs.fstat(fd).st_size + 1, 0)
    finally:
        fs.close(fd)


def stat_fields(found: os.stat_result) -> tuple[int, ...]:
    """What must not change by itself; atime may, by reading."""
    return (
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


class ContentCases:
    """Bytes of files."""

    def test_a_new_file_is_empty(self, fs):
        write_file(fs, b"/f")
        assert fs.stat(b"/f").st_size == 0
        assert read_file(fs, b"/f") == b""

    def test_what_was_written_is_read_again(self, fs):
        write_file(fs, b"/f", b"hello")
        assert read_file(fs, b"/f") == b"hello"
        fs.remount()
        assert read_file(fs, b"/f") == b"hello"

    def test_reading_at_and_behind_the_end_gives_what_there_is(self, fs):
        write_file(fs, b"/f", b"hello")
        fd = fs.open(b"/f", os.O_RDONLY)
        assert fs.pread(fd, 100, 3) == b"lo"
        assert fs.pread(fd, 100, 5) == b""
        assert fs.pread(fd, 100, 5000) == b""
        assert fs.pread(fd, 0, 0) == b""
        fs.close(fd)

    def test_many_small_writes_add_up(self, fs):
        fd = fs.open(b"/f", os.O_RDWR | os.O_CREAT)
        pieces = [bytes([index % 251]) * (index % 37) for index in range(300)]
        for piece in pieces:
            assert fs.write(fd, piece) == len(piece)
        whole = b"".join(pieces)
        assert fs.pread(fd, len(whole) + 1, 0) == whole
        fs.close(fd)
        assert read_file(fs, b"/f") == whole

    def test_a_header_can_be_rewritten_after_the_body(self, fs):
        """Archives, linkers and databases do this; Kubo's mount appended the second header."""
        fd = fs.open(b"/f", os.O_RDWR | os.O_CREAT)
        fs.pwrite(fd, b"HDR0", 0)
        fs.pwrite(fd, b"body" * 100, 4)
        fs.pwrite(fd, b"HDR1", 0)
        fs.close(fd)
        assert read_file(fs, b"/f") == b"HDR1" + b"body" * 100

    def test_writing_in_the_middle_keeps_what_is_around(self, fs):
        write_file(fs, b"/f", b"0123456789")
        fs.remount()
        fd = fs.open(b"/f", os.O_WRONLY)
        fs.pwrite(fd, b"abc", 4)
        fs.close(fd)
        assert read_file(fs, b"/f") == b"0123abc789"

    def test_append_goes_to_the_end_whoever_wrote_there(self, fs):
        write_file(fs, b"/f", b"one ")
        first = fs.open(b"/f", os.O_WRONLY | os.O_APPEND)
        second = fs.open(b"/f", os.O_WRONLY | os.O_APPEND)
        fs.write(first, b"two ")
        fs.write(second, b"three ")
        fs.write(first, b"four")
        fs.close(first)
        fs.close(second)
        assert read_file(fs, b"/f") == b"one two three four"

    def test_writing_behind_the_end_leaves_zeros(self, fs):
        write_file(fs, b"/f", b"start")
        fd = fs.open(b"/f", os.O_WRONLY)
        fs.pwrite(fd, b"end", 100_000)
        fs.close(fd)
        assert read_file(fs, b"/f") == b"start" + bytes(99_995) + b"end"

    def test_writes_across_the_end_of_a_leaf(self, fs):
        chunk = fs.chunk_size_bytes
        data = random.Random(1).randbytes(2 * chunk + 500)
        write_file(fs, b"/f", data)
        changed = bytearray(data)
        fd = fs.open(b"/f", os.O_RDWR)
        for offset in (chunk - 3, 2 * chunk - 100, 2 * chunk + 400):
            fs.pwrite(fd, b"across the border" * 10, offset)
            changed[offset : offset + 170] = b"across the border" * 10
            assert fs.pread(fd, 300, offset - 50) == changed[offset - 50 : offset + 250]
        fs.close(fd)
        fs.remount()
        assert read_file(fs, b"/f") == changed

    def test_a_file_of_several_leaves_with_a_ragged_end(self, fs):
        data = random.Random(2).randbytes(MIB + 1)
        write_file(fs, b"/f", data)
        assert read_file(fs, b"/f") == data
        fs.remount()
        assert fs.stat(b"/f").st_size == MIB + 1
        assert read_file(fs, b"/f") == data

    def test_open_with_truncate_empties_the_file(self, fs):
        write_file(fs, b"/f", b"old content")
        write_file(fs, b"/f", b"new")
        assert read_file(fs, b"/f") == b"new"

    def test_truncate_by_path_and_by_descriptor(self, fs):
        write_file(fs, b"/f", b"0123456789")
        fs.truncate(b"/f", 4)
        assert read_file(fs, b"/f") == b"0123"
        fd = fs.open(b"/f", os.O_RDWR)
        fs.ftruncate(fd, 6)
        assert fs.pread(fd, 10, 0) == b"0123\0\0"
        fs.ftruncate(fd, 0)
        assert fs.fstat(fd).st_size == 0
        fs.close(fd)
        assert read_file(fs, b"/f") == b""

    def test_what_was_cut_off_reads_as_zeros_when_the_file_grows_again(self, fs):
        write_file(fs, b"/f", b"secret" * 1000)
        fs.truncate(b"/f", 3)
        fs.truncate(b"/f", 6000)
        assert read_file(fs, b"/f") == b"sec" + bytes(5997)

    def test_truncate_while_others_have_it_open(self, fs):
        write_file(fs, b"/f", b"0123456789")
        fd = fs.open(b"/f", os.O_RDWR)
        fs.truncate(b"/f", 2)
        assert fs.fstat(fd).st_size == 2
        fs.pwrite(fd, b"x", 5)
        fs.close(fd)
        assert read_file(fs, b"/f") == b"01\0\0\0x"

    def test_a_huge_hole_costs_nothing(self, fs):
        write_file(fs, b"/f")
        fs.truncate(b"/f", 1 << 40)
        assert fs.stat(b"/f").st_size == 1 << 40
        fd = fs.open(b"/f", os.O_RDWR)
        assert fs.pread(fd, 10, 1 << 39) == bytes(10)
        fs.ftruncate(fd, 0)
        fs.close(fd)

    def test_a_file_beyond_the_limit_is_refused(self, fs):
        write_file(fs, b"/f", b"x")
        with fails_with(errno.EFBIG):
            fs.truncate(b"/f", 1 << 60)
        assert read_file(fs, b"/f") == b"x"

    def test_readers_see_what_writers_write_at_once(self, fs):
        write_file(fs, b"/f", b"first")
        reader = fs.open(b"/f", os.O_RDONLY)
        writer = fs.open(b"/f", os.O_WRONLY)
        assert fs.pread(reader, 100, 0) == b"first"
        fs.pwrite(writer, b"FIRST and more", 0)
        assert fs.pread(reader, 100, 0) == b"FIRST and more"
        assert fs.fstat(reader).st_size == 14
        fs.close(reader)
        fs.close(writer)

    def test_two_writers_of_one_file(self, fs):
        first = fs.open(b"/f", os.O_RDWR | os.O_CREAT)
        second = fs.open(b"/f", os.O_RDWR)
        for index in range(50):
            fs.pwrite(first, b"a" * 10, index * 20)
            fs.pwrite(second, b"b" * 10, index * 20 + 10)
        fs.close(first)
        assert fs.pread(second, 1000, 0) == (b"a" * 10 + b"b" * 10) * 50
        fs.close(second)

    def test_the_size_is_right_while_writing(self, fs):
        fd = fs.open(b"/f", os.O_WRONLY | os.O_CREAT)
        for index in range(1, 20):
            fs.write(fd, b"x" * 1000)
            assert fs.fstat(fd).st_size == fs.stat(b"/f").st_size == index * 1000
        fs.close(fd)

    def test_concurrent_writers_of_many_files(self, fs):
        def work(number):
            for index in range(60):
                path = b"/%d-%d" % (number, index)
                write_file(fs, path, b"%d" % (number * index) * 50)
                assert read_file(fs, path) == b"%d" % (number * index) * 50

        run_together(work, range(4))
        assert len(fs.listdir(b"/")) == 240

    def test_concurrent_writers_of_one_file_each_in_their_place(self, fs):
        write_file(fs, b"/f")

        def work(number):
            fd = fs.open(b"/f", os.O_RDWR)
            for index in range(100):
                at = (index * 4 + number) * 100
                fs.pwrite(fd, bytes([number + 1]) * 100, at)
                assert fs.pread(fd, 100, at) == bytes([number + 1]) * 100
            fs.fsync(fd)
            fs.close(fd)

        run_together(work, range(4))
        expected = b"".join(bytes([number + 1]) * 100 for number in range(4)) * 100
        assert read_file(fs, b"/f") == expected


class NameCases:
    """Directories and entries."""

    def test_an_empty_directory_lists_nothing(self, fs):
        fs.mkdir(b"/d")
        assert fs.listdir(b"/d") == []
        assert fs.listdir(b"/") == [b"d"]

    def test_exclusive_creation_of_what_exists_fails(self, fs):
        write_file(fs, b"/f", b"x")
        with fails_with(errno.EEXIST):
            fs.open(b"/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        fs.symlink(b"nowhere", b"/l")
        with fails_with(errno.EEXIST):
            fs.open(b"/l", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for make in (fs.mkdir, lambda path: fs.symlink(b"x", path), lambda p: fs.link(b"/l", p)):
            with fails_with(errno.EEXIST):
                make(b"/f")
        assert read_file(fs, b"/f") == b"x"

    def test_missing_names(self, fs):
        for call in (fs.stat, fs.unlink, fs.rmdir, fs.readlink, fs.listdir):
            with fails_with(errno.ENOENT):
                call(b"/missing")
        with fails_with(errno.ENOENT):
            fs.mkdir(b"/missing/d")
        with fails_with(errno.ENOENT):
            fs.rename(b"/missing", b"/x")
        with fails_with(errno.ENOENT):
            fs.link(b"/missing", b"/x")

    def test_a_file_is_no_directory(self, fs):
        write_file(fs, b"/f")
        with fails_with(errno.ENOTDIR):
            fs.stat(b"/f/x")
        with fails_with(errno.ENOTDIR):
            fs.mkdir(b"/f/x")
        with fails_with(errno.ENOTDIR):
            fs.rmdir(b"/f")
        with fails_with(errno.ENOTDIR):
            fs.listdir(b"/f")

    def test_a_directory_is_no_file(self, fs):
        fs.mkdir(b"/d")
        with fails_with(errno.EISDIR):
            fs.open(b"/d", os.O_WRONLY)
        with fails_with(errno.EISDIR):
            fs.truncate(b"/d", 0)
        with fails_with(errno.EISDIR):
            fs.unlink(b"/d")

    def test_a_directory_that_is_not_empty_is_not_removed(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/d/f")
        with fails_with(errno.ENOTEMPTY):
            fs.rmdir(b"/d")
        fs.unlink(b"/d/f")
        fs.rmdir(b"/d")
        assert fs.listdir(b"/") == []

    def test_names_are_bytes(self, fs):
        names = [b"\xff\xfe", b"with space", b"new\nline", "grün".encode(), b"-dash", b"\x01"]
        for name in names:
            write_file(fs, b"/" + name, name)
        fs.remount()
        assert sorted(fs.listdir(b"/")) == sorted(names)
        for name in names:
            assert read_file(fs, b"/" + name) == name

    def test_a_name_has_255_bytes_at_most(self, fs):
        longest = b"/" + b"n" * 255
        write_file(fs, longest, b"x")
        assert read_file(fs, longest) == b"x"
        too_long = b"/" + b"n" * 256
        calls = [
            lambda: fs.open(too_long, os.O_WRONLY | os.O_CREAT),
            lambda: fs.mkdir(too_long),
            lambda: fs.symlink(b"x", too_long),
            lambda: fs.rename(longest, too_long),
            lambda: fs.link(longest, too_long),
            lambda: fs.stat(too_long),
            lambda: fs.unlink(too_long),
        ]
        for call in calls:
            with fails_with(errno.ENAMETOOLONG):
                call()
        assert fs.statvfs().f_namemax == 255

    def test_many_entries_in_one_directory(self, fs):
        fs.mkdir(b"/d")
        names = [b"entry-%05d" % index for index in range(1500)]
        for name in names:
            fs.close(fs.open(b"/d/" + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        assert sorted(fs.listdir(b"/d")) == names
        fs.remount()
        assert sorted(fs.listdir(b"/d")) == names
        for name in names[::3]:
            fs.unlink(b"/d/" + name)
        assert sorted(fs.listdir(b"/d")) == [n for i, n in enumerate(names) if i % 3]

    def test_a_deep_path(self, fs):
        path = b""
        for index in range(60):
            path += b"/d%d" % index
            fs.mkdir(path)
        write_file(fs, path + b"/f", b"deep")
        fs.remount()
        assert read_file(fs, path + b"/f") == b"deep"

    def test_an_unlinked_open_file_lives_on(self, fs):
        write_file(fs, b"/f", b"content")
        fd = fs.open(b"/f", os.O_RDWR)
        fs.unlink(b"/f")
        assert fs.listdir(b"/") == []
        assert fs.pread(fd, 100, 0) == b"content"
        fs.pwrite(fd, b"CONTENT and more", 0)
        assert fs.pread(fd, 100, 0) == b"CONTENT and more"
        assert fs.fstat(fd).st_nlink == 0
        write_file(fs, b"/f", b"another")
        assert fs.pread(fd, 100, 0) == b"CONTENT and more"
        fs.close(fd)
        assert read_file(fs, b"/f") == b"another"

    def test_writing_through_a_descriptor_after_a_rename_of_file_and_parent(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/d/f", b"one")
        fd = fs.open(b"/d/f", os.O_RDWR)
        fs.rename(b"/d/f", b"/d/g")
        fs.pwrite(fd, b"two", 3)
        fs.rename(b"/d", b"/e")
        fs.pwrite(fd, b"three", 6)
        fs.close(fd)
        assert read_file(fs, b"/e/g") == b"onetwothree"
        fs.remount()
        assert read_file(fs, b"/e/g") == b"onetwothree"

    def test_hard_links_are_one_file(self, fs):
        write_file(fs, b"/a", b"x")
        fs.mkdir(b"/d")
        fs.link(b"/a", b"/d/b")
        assert fs.stat(b"/a").st_ino == fs.stat(b"/d/b").st_ino
        assert fs.stat(b"/a").st_nlink == 2
        write_file(fs, b"/d/b", b"changed")
        assert read_file(fs, b"/a") == b"changed"
        fs.remount()
        assert fs.stat(b"/a").st_ino == fs.stat(b"/d/b").st_ino
        fs.unlink(b"/a")
        assert fs.stat(b"/d/b").st_nlink == 1
        assert read_file(fs, b"/d/b") == b"changed"

    def test_many_hard_links(self, fs):
        write_file(fs, b"/f0", b"x")
        for index in range(1, 100):
            fs.link(b"/f%d" % (index - 1), b"/f%d" % index)
        assert fs.stat(b"/f50").st_nlink == 100
        for index in range(99):
            fs.unlink(b"/f%d" % index)
        assert fs.stat(b"/f99").st_nlink == 1
        assert read_file(fs, b"/f99") == b"x"

    def test_a_directory_has_no_hard_links(self, fs):
        fs.mkdir(b"/d")
        with fails_with(errno.EPERM):
            fs.link(b"/d", b"/e")

    def test_links_of_a_directory_count_its_subdirectories(self, fs):
        fs.mkdir(b"/d")
        assert fs.stat(b"/d").st_nlink == 2
        fs.mkdir(b"/d/a")
        fs.mkdir(b"/d/b")
        write_file(fs, b"/d/f")
        assert fs.stat(b"/d").st_nlink == 4
        fs.rename(b"/d/a", b"/a")
        fs.rmdir(b"/d/b")
        assert fs.stat(b"/d").st_nlink == 2

    def test_symlinks(self, fs):
        fs.symlink(b"target/of the\xff link", b"/l")
        assert fs.readlink(b"/l") == b"target/of the\xff link"
        found = fs.lstat(b"/l")
        assert stat.S_ISLNK(found.st_mode)
        assert found.st_size == 19
        fs.remount()
        assert fs.readlink(b"/l") == b"target/of the\xff link"
        write_file(fs, b"/f")
        with fails_with(errno.EINVAL):
            fs.readlink(b"/f")

    def test_a_symlink_is_followed(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/d/f", b"data")
        fs.symlink(b"d/f", b"/l")
        assert read_file(fs, b"/l") == b"data"
        fs.symlink(b"loop", b"/loop")
        with fails_with(errno.ELOOP):
            fs.stat(b"/loop")

    def test_a_symlink_target_is_not_empty_and_not_too_long(self, fs):
        fs.symlink(b"t" * 4095, b"/l")
        assert fs.readlink(b"/l") == b"t" * 4095
        with fails_with(errno.ENAMETOOLONG):
            fs.symlink(b"t" * 4096, b"/l2")
        with fails_with(errno.ENOENT):
            fs.symlink(b"", b"/l3")

    def test_special_files_keep_kind_and_number(self, fs):
        fs.mknod(b"/fifo", stat.S_IFIFO | 0o600)
        fs.mknod(b"/socket", stat.S_IFSOCK | 0o644)
        fs.mknod(b"/device", stat.S_IFCHR | 0o644, os.makedev(1, 3))
        fs.remount()
        assert stat.S_ISFIFO(fs.lstat(b"/fifo").st_mode)
        assert stat.S_ISSOCK(fs.lstat(b"/socket").st_mode)
        device = fs.lstat(b"/device")
        assert stat.S_ISCHR(device.st_mode)
        assert device.st_rdev == os.makedev(1, 3)
        assert sorted(fs.listdir(b"/")) == [b"device", b"fifo", b"socket"]
        fs.unlink(b"/fifo")


class RenameCases:
    """rename(2) and renameat2(2)."""

    def test_rename_moves(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/a", b"x")
        number = fs.stat(b"/a").st_ino
        fs.rename(b"/a", b"/d/b")
        assert fs.listdir(b"/") == [b"d"]
        assert read_file(fs, b"/d/b") == b"x"
        assert fs.stat(b"/d/b").st_ino == number

    def test_rename_replaces_a_file(self, fs):
        write_file(fs, b"/a", b"new")
        write_file(fs, b"/b", b"old")
        fd = fs.open(b"/b", os.O_RDONLY)
        fs.rename(b"/a", b"/b")
        assert read_file(fs, b"/b") == b"new"
        assert fs.pread(fd, 10, 0) == b"old"
        fs.close(fd)
        assert fs.listdir(b"/") == [b"b"]

    def test_rename_to_itself_or_another_name_of_itself_changes_nothing(self, fs):
        write_file(fs, b"/a", b"x")
        fs.link(b"/a", b"/b")
        fs.rename(b"/a", b"/a")
        fs.rename(b"/a", b"/b")
        assert sorted(fs.listdir(b"/")) == [b"a", b"b"]

    def test_rename_of_a_directory_with_content(self, fs):
        fs.mkdir(b"/a")
        fs.mkdir(b"/a/sub")
        write_file(fs, b"/a/sub/f", b"x")
        fs.mkdir(b"/t")
        fs.rename(b"/a", b"/t/b")
        assert read_file(fs, b"/t/b/sub/f") == b"x"
        fs.remount()
        assert read_file(fs, b"/t/b/sub/f") == b"x"
        assert fs.listdir(b"/") == [b"t"]

    def test_rename_over_an_empty_directory(self, fs):
        fs.mkdir(b"/a")
        write_file(fs, b"/a/f", b"x")
        fs.mkdir(b"/b")
        fs.rename(b"/a", b"/b")
        assert fs.listdir(b"/") == [b"b"]
        assert read_file(fs, b"/b/f") == b"x"

    def test_rename_over_a_directory_with_content_is_refused(self, fs):
        """Kubo's mount deleted everything in it."""
        fs.mkdir(b"/a")
        fs.mkdir(b"/b")
        write_file(fs, b"/b/precious", b"x")
        with fails_with(errno.ENOTEMPTY):
            fs.rename(b"/a", b"/b")
        assert read_file(fs, b"/b/precious") == b"x"
        assert sorted(fs.listdir(b"/")) == [b"a", b"b"]

    def test_rename_between_kinds_is_refused(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/f")
        with fails_with(errno.EISDIR):
            fs.rename(b"/f", b"/d")
        with fails_with(errno.ENOTDIR):
            fs.rename(b"/d", b"/f")

    def test_a_directory_does_not_move_into_itself(self, fs):
        fs.mkdir(b"/a")
        fs.mkdir(b"/a/b")
        fs.mkdir(b"/a/b/c")
        for target in (b"/a/x", b"/a/b/x", b"/a/b/c/x"):
            with fails_with(errno.EINVAL):
                fs.rename(b"/a", target)
        assert fs.listdir(b"/a/b") == [b"c"]

    def test_no_replace_does_not_replace(self, fs):
        """Kubo's mount ignored the flag and overwrote."""
        write_file(fs, b"/a", b"a")
        write_file(fs, b"/b", b"b")
        with fails_with(errno.EEXIST):
            fs.rename(b"/a", b"/b", RENAME_NOREPLACE)
        assert (read_file(fs, b"/a"), read_file(fs, b"/b")) == (b"a", b"b")
        fs.rename(b"/a", b"/c", RENAME_NOREPLACE)
        assert read_file(fs, b"/c") == b"a"

    def test_exchange_swaps_whatever_they_are(self, fs):
        """Kubo's mount destroyed the target."""
        fs.mkdir(b"/d")
        fs.mkdir(b"/d/sub")
        write_file(fs, b"/d/sub/f", b"inside")
        write_file(fs, b"/f", b"file")
        fs.rename(b"/f", b"/d/sub", RENAME_EXCHANGE)
        assert read_file(fs, b"/d/sub") == b"file"
        assert read_file(fs, b"/f/f") == b"inside"
        assert (fs.stat(b"/").st_nlink, fs.stat(b"/d").st_nlink) == (4, 2)
        fs.remount()
        assert read_file(fs, b"/f/f") == b"inside"
        with fails_with(errno.ENOENT):
            fs.rename(b"/f", b"/missing", RENAME_EXCHANGE)
        with fails_with(errno.EINVAL):
            fs.rename(b"/d", b"/d/sub", RENAME_EXCHANGE)

    def test_the_way_of_editors(self, fs):
        """Backup by rename, new file, fsync, delete the backup: as vim does."""
        write_file(fs, b"/f", b"version 1")
        for version in range(2, 5):
            fs.rename(b"/f", b"/f~")
            fd = fs.open(b"/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            fs.write(fd, b"version %d" % version)
            fs.fsync(fd)
            fs.close(fd)
            fs.unlink(b"/f~")
            assert read_file(fs, b"/f") == b"version %d" % version
            assert fs.listdir(b"/") == [b"f"]

    def test_the_way_of_rsync(self, fs):
        """A hidden file beside the target, times set, renamed over it."""
        write_file(fs, b"/f", b"old")
        write_file(fs, b"/.f.Xy12", b"new")
        fs.utime(b"/.f.Xy12", 1, 1_000_000_007)
        fs.chmod(b"/.f.Xy12", 0o640)
        fs.rename(b"/.f.Xy12", b"/f")
        found = fs.stat(b"/f")
        assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (1_000_000_007, 0o640)
        assert read_file(fs, b"/f") == b"new"


class AttributeCases:
    """Numbers, modes, owners, times, extended attributes."""

    def test_attributes_are_there_at_once(self, fs):
        fd = fs.open(b"/f", os.O_WRONLY | os.O_CREAT, 0o640)
        found = fs.fstat(fd)
        fs.close(fd)
        assert stat.S_ISREG(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o640
        fs.mkdir(b"/d", 0o750)
        assert stat.S_IMODE(fs.stat(b"/d").st_mode) == 0o750
        assert stat.S_ISDIR(fs.stat(b"/d").st_mode)

    def test_inode_numbers_are_stable(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/d/f", b"x")
        number = fs.stat(b"/d/f").st_ino
        write_file(fs, b"/d/f", b"more")
        fs.rename(b"/d/f", b"/g")
        assert fs.stat(b"/g").st_ino == number
        fs.remount()
        assert fs.stat(b"/g").st_ino == number
        write_file(fs, b"/new")
        assert fs.stat(b"/new").st_ino != number

    def test_modes_and_owners_survive(self, fs):
        write_file(fs, b"/f", b"x")
        fs.chown(b"/f", 1234, 5678)
        fs.chmod(b"/f", 0o4751)
        fs.remount()
        found = fs.stat(b"/f")
        assert stat.S_IMODE(found.st_mode) == 0o4751
        assert (found.st_uid, found.st_gid) == (1234, 5678)

    def test_a_new_owner_takes_setuid_and_setgid_away(self, fs):
        write_file(fs, b"/f", b"x")
        fs.chmod(b"/f", 0o6755)
        fs.chown(b"/f", 1, 1)
        assert stat.S_IMODE(fs.stat(b"/f").st_mode) == 0o755
        fs.mkdir(b"/d")
        fs.chmod(b"/d", 0o2755)
        fs.chown(b"/d", 1, 1)
        assert stat.S_IMODE(fs.stat(b"/d").st_mode) == 0o2755

    def test_a_setgid_directory_hands_its_group_down(self, fs):
        fs.mkdir(b"/d")
        fs.chown(b"/d", 0, 77)
        fs.chmod(b"/d", 0o2775)
        write_file(fs, b"/d/f")
        fs.mkdir(b"/d/sub")
        assert fs.stat(b"/d/f").st_gid == 77
        assert fs.stat(b"/d/sub").st_gid == 77
        assert stat.S_IMODE(fs.stat(b"/d/sub").st_mode) & stat.S_ISGID

    def test_times_have_nanoseconds_and_may_lie_before_1970(self, fs):
        write_file(fs, b"/f")
        for atime_ns, mtime_ns in ((1_234_567_891, 987_654_321_012_345_678), (-5, -(10**18))):
            fs.utime(b"/f", atime_ns, mtime_ns)
            fs.remount()
            found = fs.stat(b"/f")
            assert (found.st_atime_ns, found.st_mtime_ns) == (atime_ns, mtime_ns)

    def test_which_times_which_operation_changes(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/d/f", b"x")

        def changed(path, call):
            for node in (b"/d", b"/d/f", b"/d/g"):
                try:
                    fs.utime(node, 10**9, 10**9)
                except FileNotFoundError:
                    continue
            before = fs.lstat(path)
            call()
            after = fs.lstat(path)
            return [
                name
                for name in ("mtime", "ctime")
                if getattr(after, f"st_{name}_ns") != getattr(before, f"st_{name}_ns")
            ]

        fd = fs.open(b"/d/f", os.O_RDWR)
        assert changed(b"/d/f", lambda: fs.pwrite(fd, b"y", 0)) == ["mtime", "ctime"]
        assert changed(b"/d/f", lambda: fs.ftruncate(fd, 0)) == ["mtime", "ctime"]
        assert changed(b"/d/f", lambda: fs.ftruncate(fd, 10)) == ["mtime", "ctime"]
        fs.close(fd)
        assert changed(b"/d/f", lambda: fs.chmod(b"/d/f", 0o600)) == ["ctime"]
        assert changed(b"/d/f", lambda: fs.chown(b"/d/f", 1, 1)) == ["ctime"]
        assert changed(b"/d", lambda: fs.link(b"/d/f", b"/d/g")) == ["mtime", "ctime"]
        assert changed(b"/d/f", lambda: fs.unlink(b"/d/g")) == ["ctime"]
        assert changed(b"/d", lambda: fs.rename(b"/d/f", b"/d/g")) == ["mtime", "ctime"]
        assert changed(b"/d", lambda: write_file(fs, b"/d/f")) == ["mtime", "ctime"]
        assert changed(b"/d", lambda: fs.unlink(b"/d/f")) == ["mtime", "ctime"]
        assert changed(b"/d", lambda: fs.mkdir(b"/d/sub")) == ["mtime", "ctime"]
        assert changed(b"/d", lambda: fs.rmdir(b"/d/sub")) == ["mtime", "ctime"]
        assert changed(b"/d", lambda: fs.stat(b"/d/g")) == []

    def test_nothing_changes_by_a_remount(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/d/f", b"x" * 5000)
        fs.symlink(b"d", b"/l")
        fs.mknod(b"/p", stat.S_IFIFO | 0o600)
        paths = (b"/", b"/d", b"/d/f", b"/l", b"/p")
        before = [stat_fields(fs.lstat(path)) for path in paths]
        fs.remount()
        assert [stat_fields(fs.lstat(path)) for path in paths] == before

    def test_blocks_follow_the_size(self, fs):
        write_file(fs, b"/f", b"x" * 1000)
        assert fs.stat(b"/f").st_blocks == 2

    def test_extended_attributes(self, fs):
        write_file(fs, b"/f")
        fs.setxattr(b"/f", b"user.one", b"1")
        fs.setxattr(b"/f", b"user.two", b"\0binary\xff")
        fs.setxattr(b"/f", b"user.one", b"changed")
        fs.remount()
        assert fs.getxattr(b"/f", b"user.one") == b"changed"
        assert fs.getxattr(b"/f", b"user.two") == b"\0binary\xff"
        own = [name for name in fs.listxattr(b"/f") if name.startswith(b"user.")]
        assert sorted(own) == [b"user.one", b"user.two"]
        fs.removexattr(b"/f", b"user.one")
        with fails_with(errno.ENODATA):
            fs.getxattr(b"/f", b"user.one")
        with fails_with(errno.ENODATA):
            fs.removexattr(b"/f", b"user.one")

    def test_flags_of_setxattr(self, fs):
        write_file(fs, b"/f")
        with fails_with(errno.ENODATA):
            fs.setxattr(b"/f", b"user.x", b"1", os.XATTR_REPLACE)
        fs.setxattr(b"/f", b"user.x", b"1", os.XATTR_CREATE)
        with fails_with(errno.EEXIST):
            fs.setxattr(b"/f", b"user.x", b"2", os.XATTR_CREATE)
        fs.setxattr(b"/f", b"user.x", b"3", os.XATTR_REPLACE)
        assert fs.getxattr(b"/f", b"user.x") == b"3"

    def test_extended_attributes_of_directories_and_their_limits(self, fs):
        fs.mkdir(b"/d")
        fs.setxattr(b"/d", b"user.big", b"v" * 60_000)
        assert fs.getxattr(b"/d", b"user.big") == b"v" * 60_000
        with fails_with(errno.ENOSPC):
            fs.setxattr(b"/d", b"user.more", b"v" * 10_000)
        fs.setxattr(b"/d", b"user.empty", b"")
        assert fs.getxattr(b"/d", b"user.empty") == b""


class CidCases:
    """What makes it more than a file system."""

    def test_equal_bytes_have_equal_cids_however_they_came_to_be(self, fs):
        data = random.Random(5).randbytes(30_000)
        write_file(fs, b"/at-once", data)
        fd = fs.open(b"/in-pieces", os.O_WRONLY | os.O_CREAT)
        offsets = list(range(0, len(data), 777))
        random.Random(6).shuffle(offsets)
        for offset in offsets:
            fs.pwrite(fd, data[offset : offset + 777], offset)
        fs.close(fd)
        assert fs.cid(b"/at-once") == fs.cid(b"/in-pieces")

    def test_equal_directories_have_equal_cids_in_any_order(self, fs):
        names = [b"name-%03d" % index for index in range(200)]
        for directory, seed in ((b"/a", 1), (b"/b", 2)):
            fs.mkdir(directory)
            shuffled = names[:]
            random.Random(seed).shuffle(shuffled)
            for name in shuffled:
                write_file(fs, directory + b"/" + name, name)
            write_file(fs, directory + b"/gone")
            fs.cid(directory)
            fs.unlink(directory + b"/gone")
        assert fs.cid(b"/a") == fs.cid(b"/b")

    def test_reading_listing_and_remounting_do_not_change_a_cid(self, fs):
        fs.mkdir(b"/d")
        write_file(fs, b"/d/f", b"x" * 1000)
        first = fs.cid(b"/")
        read_file(fs, b"/d/f")
        fs.listdir(b"/d")
        fs.stat(b"/d/f")
        fs.chmod(b"/d/f", 0o600)
        fs.utime(b"/d/f", 5, 5)
        assert fs.cid(b"/") == first
        fs.remount()
        assert fs.cid(b"/") == first

    def test_rewriting_the_same_bytes_keeps_the_cid(self, fs):
        write_file(fs, b"/f", b"same" * 1000)
        first = fs.cid(b"/")
        for _ in range(5):
            write_file(fs, b"/f", b"same" * 1000)
            assert fs.cid(b"/") == first

    def test_special_files_are_not_in_the_dag(self, fs):
        empty = fs.cid(b"/")
        fs.mknod(b"/p", stat.S_IFIFO | 0o600)
        assert fs.cid(b"/") == empty
        with fails_with(errno.ENODATA):
            fs.cid(b"/p")


class ThrashCases:
    """Many at once."""

    def test_directories_and_files_come_and_go_from_several_threads(self, fs):
        def work(number):
            generator = random.Random(number)
            for index in range(80):
                path = b"/d%d" % generator.randrange(10)
                try:
                    if generator.random() < 0.3:
                        fs.mkdir(path)
                    elif generator.random() < 0.6:
                        write_file(fs, path + b"/f%d" % generator.randrange(5), b"%d" % index)
                    elif generator.random() < 0.5:
                        fs.rename(path, b"/d%d" % generator.randrange(10))
                    else:
                        for name in fs.listdir(path):
                            fs.unlink(path + b"/" + name)
                        fs.rmdir(path)
                except OSError as error:
                    assert error.errno in (
                        errno.EEXIST,
                        errno.ENOENT,
                        errno.ENOTEMPTY,
                    ), error

        run_together(work, range(4))
        before = {name: sorted(fs.listdir(b"/" + name)) for name in fs.listdir(b"/")}
        fs.remount()
        assert {name: sorted(fs.listdir(b"/" + name)) for name in fs.listdir(b"/")} == before


def run_together(work, arguments) -> None:
    """Call `work` with each argument in a thread of its own; the first failure is raised."""
    failures = []

    def run(argument):
        try:
            work(argument)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class FilesystemSuite(ContentCases, NameCases, RenameCases, AttributeCases, CidCases, ThrashCases):
    """All cases."""
