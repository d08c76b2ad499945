"""The session without a kernel: a socket stands for /dev/fuse, and we are the kernel."""

import errno
import os
import random
import socket
import stat as modes
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import kernel_mount, operations, transport_kernel, watch, wire
from fusefs.errors import MalformedRequest
from fusefs.filesystem import FileSystem
from fusefs.options import MountOptions
from fusefs.transport import Counters
from fusefs.transport_kernel import KernelSession
from fusefs.wire import REQUEST_SIZE_MAX_BYTES
from ipld.profile import UNIXFS_V1_2025
from mfs.roots import Roots
from repo.service import Repo
from tests.fusefs.fake_tree import FakeRoots

WAIT_S = 20.0


class Kernel:
    """The other end of a session."""

    def __init__(self, filesystem: FileSystem) -> None:
        self.fs = filesystem
        self._end, self._device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._end, self._device):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._end.settimeout(WAIT_S)
        self.session = KernelSession(filesystem)
        self._unique = 0
        self.is_answered_late = False
        """Whether answers to earlier requests may come yet: a thread of its own is at them."""
        self.thread = threading.Thread(target=self._serve)

    def plug_in(self, monkeypatch) -> None:
        monkeypatch.setattr(kernel_mount, "mount", lambda _point, _options: self._device.detach())
        self.session.mount("/nowhere", MountOptions())
        self.thread.start()

    def _serve(self) -> None:
        self.session.serve()
        self.session.close(unmount=True)

    def send(self, opcode: int, body: bytes = b"", *, inode: int = 1, uid: int = 0) -> int:
        self._unique += 2
        head = wire.IN_HEADER.pack(40 + len(body), opcode, self._unique, inode, uid, 0, 1, 0, 0)
        self._end.send(head + body)
        return self._unique

    def send_raw(self, message: bytes) -> None:
        self._end.send(message)

    def answer(self) -> tuple[int, int, bytes]:
        """(unique, error, data) of the next one."""
        message = self._end.recv(REQUEST_SIZE_MAX_BYTES)
        length, error, unique = wire.OUT_HEADER.unpack_from(message)
        assert length == len(message)
        return unique, -error, message[wire.OUT_HEADER.size :]

    def ask(self, opcode: int, body: bytes = b"", **more: int) -> tuple[int, bytes]:
        """(errno, data) of a request."""
        sent = self.send(opcode, body, **more)
        unique, error, data = self.answer()
        while unique != sent and self.is_answered_late:
            unique, error, data = self.answer()
        assert unique == sent
        return error, data

    def drain(self) -> int:
        """All answers up to that of a request that is surely answered; how many."""
        sent, count = self.send(wire.GETATTR, bytes(16)), 0
        while True:
            unique, error, _ = self.answer()
            if unique == sent:
                assert error == 0
                return count
            count += 1

    def close(self) -> None:
        self._end.close()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


@pytest.fixture
def roots() -> FakeRoots:
    return FakeRoots("main")


@pytest.fixture
def kernel(roots, monkeypatch) -> Iterator[Kernel]:
    kernel = Kernel(FileSystem(roots, MountOptions()))
    kernel.plug_in(monkeypatch)
    yield kernel
    kernel.close()
    assert kernel.session.counters.unexpected_errors == 0


def created(kernel: Kernel, name: bytes, flags: int = os.O_RDWR, **more: int) -> tuple[int, int]:
    """(inode, handle) of a new file."""
    body = wire.CREATE_IN.pack(flags | os.O_CREAT, modes.S_IFREG | 0o644, 0, 0) + name + b"\0"
    error, data = kernel.ask(wire.CREATE, body, **more)
    assert error == 0
    (inode,) = wire.FORGET_IN.unpack_from(data)
    (handle,) = wire.FORGET_IN.unpack_from(data, wire.ENTRY_OUT.size + wire.ATTR.size)
    return inode, handle


def written(kernel: Kernel, handle: int, data: bytes, flags: int = 0) -> int:
    body = wire.WRITE_IN.pack(handle, 0, len(data), flags, 0, 0) + data
    error, answer = kernel.ask(wire.WRITE, body)
    assert error == 0
    return wire.WRITE_OUT.unpack(answer)[0]


def read(kernel: Kernel, handle: int, size_bytes: int) -> tuple[int, bytes]:
    return kernel.ask(wire.READ, wire.READ_IN.pack(handle, 0, size_bytes, 0, 0, 0))


def counted(kernel: Kernel) -> int:
    """The unexpected errors so far; from here on there are none again."""
    counters, kernel.session.counters = kernel.session.counters, Counters()
    return counters.unexpected_errors


def test_session_begins_with_what_both_can_do(kernel):
    body = wire.INIT_IN.pack(7, 45, 131072, 0xFFFF_FFFF) + bytes(48)
    error, data = kernel.ask(wire.INIT, body)
    numbers = wire.INIT_OUT.unpack(data)
    assert (error, *numbers[:4]) == (0, 7, 38, 131072, operations.WANTED)


def test_kernel_that_is_too_old_is_refused(kernel):
    assert kernel.ask(wire.INIT, wire.INIT_IN.pack(7, 30, 4096, 0))[0] == errno.EINVAL


@pytest.mark.parametrize("opcode", [0, 7, 31, 39, 40, 43, 46, 47, 51, 4096, (1 << 32) - 1])
def test_what_we_do_not_know_is_said_to_be_unknown(kernel, opcode):
    assert kernel.ask(opcode, bytes(64)) == (errno.ENOSYS, b"")


def test_file_is_made_written_read_and_let_go(kernel, roots):
    inode, handle = created(kernel, b"file")
    assert written(kernel, handle, b"content") == 7
    assert read(kernel, handle, 100) == (0, b"content")
    body = wire.RELEASE_IN.pack(handle, 0, 0, 0)
    assert kernel.ask(wire.RELEASE, body) == (0, b"")
    assert read(kernel, handle, 100)[0] == errno.EBADF
    assert roots.trees["main"].nodes[inode].opens == 0


@pytest.mark.allow_logs("write failed")
def test_write_that_says_another_length_is_refused(kernel):
    _, handle = created(kernel, b"file")
    body = wire.WRITE_IN.pack(handle, 0, 8, 0, 0, 0) + b"content"
    assert kernel.ask(wire.WRITE, body)[0] == errno.EIO
    assert read(kernel, handle, 100) == (0, b"")
    assert counted(kernel) == 1


def test_write_takes_privileges_away_only_when_the_kernel_says_so(kernel, roots):
    inode, handle = created(kernel, b"file", uid=1000)
    tree = roots.trees["main"]
    seen = []
    write = tree.write
    tree.write = lambda *args, **more: (seen.append(more), write(*args))[1]
    written(kernel, handle, b"x")
    written(kernel, handle, b"x", wire.WRITE_KILL_PRIVILEGES)
    assert seen == [{"clear_privileges": False}, {}]
    assert inode


@pytest.mark.allow_logs("attributes failed")
def test_attribute_asked_for_with_no_room_is_its_length_and_with_little_an_error(kernel):
    body = wire.SETXATTR_IN.pack(5, 0) + b"user.name\0value"
    assert kernel.ask(wire.SETXATTR, body) == (0, b"")
    for room, expected in ((0, (0, wire.GETXATTR_OUT.pack(5))), (4, (errno.ERANGE, b"")),
                           (5, (0, b"value")), (99, (0, b"value"))):  # fmt: skip
        body = wire.GETXATTR_IN.pack(room) + b"user.name\0"
        assert kernel.ask(wire.GETXATTR, body) == expected
    assert kernel.ask(wire.LISTXATTR, wire.GETXATTR_IN.pack(99)) == (0, b"user.name\0")
    for size in (4, 6):
        body = wire.SETXATTR_IN.pack(size, 0) + b"user.name\0value"
        assert kernel.ask(wire.SETXATTR, body)[0] == errno.EIO
    assert counted(kernel) == 2


def test_directory_is_listed_over_as_many_requests_as_it_takes(kernel, roots):
    tree = roots.trees["main"]
    for number in range(300):
        tree.create(1, b"n%03d" % number, 0o644, 0, 0)
    _, data = kernel.ask(wire.OPENDIR, wire.OPEN_IN.pack(0, 0))
    (handle,) = wire.FORGET_IN.unpack_from(data)
    for opcode, head in ((wire.READDIR, 0), (wire.READDIRPLUS, 128)):
        names: list[bytes] = []
        position = 0
        for _ in range(1000):
            body = wire.READ_IN.pack(handle, position, 500, 0, 0, 0)
            error, data = kernel.ask(opcode, body)
            assert error == 0
            if not data:
                break
            at = 0
            while at < len(data):
                _, position, length, _ = wire.DIRENT.unpack_from(data, at + head)
                names.append(data[at + head + 24 : at + head + 24 + length])
                at += (head + 24 + length + 7) & -8
        assert names == [b".", b"..", *(b"n%03d" % number for number in range(300))]


def test_answer_that_comes_too_late_is_taken_back(kernel, roots, monkeypatch):
    """Whoever waited is gone, and will never release what he was given."""
    inode, handle = created(kernel, b"file")
    kernel.ask(wire.RELEASE, wire.RELEASE_IN.pack(handle, 0, 0, 0))
    tree, forgotten = roots.trees["main"], []
    forget = kernel.fs.forget
    monkeypatch.setattr(kernel.fs, "forget", lambda pairs: (forgotten.extend(pairs), forget(pairs)))
    late = {"is": True}
    writev = os.writev

    def too_late(descriptor, parts):
        if late["is"]:
            raise OSError(errno.ENOENT, "gone")
        return writev(descriptor, parts)

    monkeypatch.setattr(transport_kernel.os, "writev", too_late)
    kernel.send(wire.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), inode=inode)
    kernel.send(wire.LOOKUP, b"file\0")
    kernel.send(wire.OPENDIR, wire.OPEN_IN.pack(0, 0))
    body = wire.CREATE_IN.pack(os.O_CREAT, modes.S_IFREG | 0o644, 0, 0) + b"new\0"
    kernel.send(wire.CREATE, body)
    while not any(found != inode for found, _ in forgotten):
        pass
    late["is"] = False
    assert kernel.drain() == 0
    assert [count for _, count in forgotten] == [1, 1]
    assert {node.opens for node in tree.nodes.values()} == {0}
    assert len(kernel.fs._handles) == 0


def test_request_of_a_killed_process_is_answered_soon_and_an_unknown_one_asked_about_again(
    kernel, roots, monkeypatch
):
    monkeypatch.setattr(watch, "is_killed", lambda pid: pid == 1)
    go_on = threading.Event()
    tree = roots.trees["main"]
    tree.fsync = lambda _ino: go_on.wait(WAIT_S) and None
    _, handle = created(kernel, b"file")
    waiting = kernel.send(wire.FSYNC, wire.FSYNC_IN.pack(handle, 0))
    kernel.send(wire.INTERRUPT, wire.INTERRUPT_IN.pack(waiting))
    assert kernel.answer()[:2] == (waiting, errno.EINTR)
    go_on.set()
    assert kernel.answer()[:2] == (waiting, 0), "which a real kernel refuses"
    unknown = kernel.send(wire.INTERRUPT, wire.INTERRUPT_IN.pack(999))
    assert kernel.answer()[:2] == (unknown, errno.EAGAIN)


@pytest.mark.allow_logs("attributes failed")
def test_forgetting_nonsense_is_counted_and_answered_by_nothing(kernel):
    kernel.send(wire.BATCH_FORGET, wire.BATCH_FORGET_IN.pack(7, 0))
    kernel.send(wire.FORGET, b"")
    assert kernel.drain() == 0
    assert counted(kernel) == 2


def test_number_of_the_descriptor_is_not_free_while_somebody_is_stuck(roots, monkeypatch):
    """His late answer would be written into whatever file has the number then."""
    monkeypatch.setattr("fusefs.crew.END_DEADLINE_S", 0.1)
    kernel = Kernel(FileSystem(roots, MountOptions()))
    kernel.plug_in(monkeypatch)
    descriptor = kernel.session._descriptor
    go_on = threading.Event()
    roots.trees["main"].fsync = lambda _ino: go_on.wait(WAIT_S) and None
    _, handle = created(kernel, b"file")
    for _ in range(2):
        kernel.send(wire.FSYNC, wire.FSYNC_IN.pack(handle, 0))
    for _ in range(3):
        assert kernel.ask(wire.GETATTR, bytes(16))[0] == 0
    kernel.session.stop()
    kernel.thread.join(WAIT_S)
    assert not kernel.session._crew.is_deserted
    assert os.path.samestat(os.fstat(descriptor), Path(os.devnull).stat())
    go_on.set()
    kernel.close()
    os.close(descriptor)


def test_slow_request_holds_up_nobody(kernel, roots):
    go_on = threading.Event()
    tree = roots.trees["main"]
    tree.fsync = lambda _ino: go_on.wait(WAIT_S) and None
    _, handle = created(kernel, b"file")
    slow = kernel.send(wire.FSYNC, wire.FSYNC_IN.pack(handle, 0))
    for _ in range(20):
        assert kernel.ask(wire.GETATTR, bytes(16))[0] == 0
    go_on.set()
    assert kernel.answer() == (slow, 0, b"")


@pytest.mark.allow_logs("lookup failed")
def test_unexpected_error_is_eio_with_a_count(kernel, roots, caplog):
    roots.trees["main"].faults[b"bad"] = lambda: 1 / 0
    assert kernel.ask(wire.LOOKUP, b"bad\0")[0] == errno.EIO
    assert counted(kernel) == 1
    assert "ZeroDivisionError" in caplog.text
    assert kernel.ask(wire.GETATTR, bytes(16))[0] == 0


def test_notifications_are_messages_of_their_own(kernel):
    kernel.session.invalidate_entry(1, b"name")
    assert kernel.answer()[:2] == (0, -wire.NOTIFY_INVAL_ENTRY)
    kernel.session.invalidate_inode(1, attributes_only=True)
    assert kernel.answer()[:2] == (0, -wire.NOTIFY_INVAL_INODE)


def test_session_ends_when_it_is_told_to_and_answers_no_more(kernel):
    kernel.session.stop()
    kernel.thread.join(WAIT_S)
    assert not kernel.thread.is_alive()


# ------------------------------------------------------------------------------------ fuzzing


def bodies(rng: random.Random, handles: list[int]) -> dict[int, bytes]:
    """One sensible body for each kind of request."""
    name = b"n%d\0" % rng.randrange(20)
    handle = rng.choice(handles)
    data = rng.randbytes(rng.randrange(200))
    times = [rng.randrange(1 << 33) for _ in range(3)]
    return {
        wire.LOOKUP: name,
        wire.FORGET: wire.FORGET_IN.pack(0),
        wire.BATCH_FORGET: wire.BATCH_FORGET_IN.pack(1, 0) + wire.FORGET_ONE.pack(9, 0),
        wire.GETATTR: bytes(16),
        wire.SETATTR: wire.SETATTR_IN.pack(
            rng.randrange(1 << 12), 0, rng.randrange(5000), 0, *times, 1, 2, 3, 0o644, 0, 0
        ),
        wire.READLINK: b"",
        wire.SYMLINK: name + b"target\0",
        wire.MKNOD: wire.MKNOD_IN.pack(modes.S_IFIFO | 0o600, 0, 0, 0) + name,
        wire.MKDIR: wire.MKDIR_IN.pack(0o755, 0) + name,
        wire.UNLINK: name,
        wire.RMDIR: name,
        wire.RENAME: wire.RENAME_IN.pack(1) + name + b"other\0",
        wire.RENAME2: wire.RENAME2_IN.pack(1, rng.randrange(4)) + name + b"other\0",
        wire.LINK: wire.LINK_IN.pack(rng.randrange(10)) + name,
        wire.OPEN: wire.OPEN_IN.pack(rng.choice((os.O_RDONLY, os.O_RDWR, os.O_TRUNC)), 0),
        wire.READ: wire.READ_IN.pack(handle, rng.randrange(300), 4096, 0, 0, 0),
        wire.WRITE: wire.WRITE_IN.pack(handle, rng.randrange(300), len(data), 0, 0, 0) + data,
        wire.STATFS: b"",
        wire.RELEASE: wire.RELEASE_IN.pack(handle, 0, 0, 0),
        wire.FSYNC: wire.FSYNC_IN.pack(handle, 0),
        wire.SETXATTR: wire.SETXATTR_IN.pack(len(data), 0) + b"user.a\0" + data,
        wire.GETXATTR: wire.GETXATTR_IN.pack(rng.randrange(300)) + b"user.a\0",
        wire.LISTXATTR: wire.GETXATTR_IN.pack(rng.randrange(300)),
        wire.REMOVEXATTR: b"user.a\0",
        wire.FLUSH: wire.FLUSH_IN.pack(handle, 0, 0, 0),
        wire.INIT: wire.INIT_IN.pack(7, 38, 4096, 0),
        wire.OPENDIR: wire.OPEN_IN.pack(0, 0),
        wire.READDIR: wire.READ_IN.pack(handle, 0, 1000, 0, 0, 0),
        wire.RELEASEDIR: wire.RELEASE_IN.pack(handle, 0, 0, 0),
        wire.FSYNCDIR: wire.FSYNC_IN.pack(handle, 0),
        wire.CREATE: wire.CREATE_IN.pack(os.O_CREAT | os.O_RDWR, modes.S_IFREG | 0o644, 0, 0)
        + name,
        wire.INTERRUPT: wire.INTERRUPT_IN.pack(rng.randrange(100)),
        wire.READDIRPLUS: wire.READ_IN.pack(handle, 0, 1000, 0, 0, 0),
        wire.SYNCFS: bytes(8),
    }


def mutated(rng: random.Random, message: bytearray) -> bytes:
    """Bytes changed, cut off or added; half of them still say their length rightly."""
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(message))
        message[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.2:
        del message[rng.randrange(len(message)) :]
    if rng.random() < 0.1:
        message += rng.randbytes(rng.randrange(50))
    if len(message) >= 4 and rng.random() < 0.7:
        message[:4] = len(message).to_bytes(4, "little")
    return bytes(message)


@pytest.mark.slow
@pytest.mark.allow_logs("failed unexpectedly")
def test_100_000_mutated_messages_never_break_the_session(monkeypatch, caplog):
    """Nothing comes out of the layer but answers, and afterwards it answers as before."""
    caplog.set_level("CRITICAL")
    repo = Repo.in_memory()
    roots = Roots(repo)
    roots.create("main", UNIXFS_V1_2025)
    kernel = Kernel(FileSystem(roots, MountOptions()))
    kernel.plug_in(monkeypatch)
    rng = random.Random(20_261_126)
    unexpected: list[BaseException] = []
    really = KernelSession._unexpected

    def noted(self, what, error):
        if not isinstance(error, MalformedRequest):
            unexpected.append(error)
        return really(self, what, error)

    monkeypatch.setattr(KernelSession, "_unexpected", noted)
    handles = [created(kernel, b"n%d" % number)[1] for number in range(5)] + [999]
    known: list[tuple[int, bytes]] = []
    for number in range(100_000):
        if number % 50 == 0:
            known = list(bodies(rng, handles).items())
        opcode, body = rng.choice(known)
        inode = rng.choice((0, 1, 1, 2, 3, 1 << 50))
        numbers = (40 + len(body), opcode, 2 * number + 1_000_001, inode, 0, 0, 1, 0, 0)
        head = wire.IN_HEADER.pack(*numbers)
        kernel.send_raw(mutated(rng, bytearray(head + body)) or b"\0")
        if number % 50 == 49:
            kernel.drain()
    assert unexpected == []
    kernel.is_answered_late = True
    inode, handle = created(kernel, b"afterwards")
    assert written(kernel, handle, b"content") == 7
    assert read(kernel, handle, 10) == (0, b"content")
    kernel.close()
