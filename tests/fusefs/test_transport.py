"""The transport on a real mount, over trees that misbehave: errors, slowness, death."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fusefs.options import KERNEL, PYFUSE3
from tests.fusefs.conftest import REPOSITORY

pytestmark = pytest.mark.needs_fuse

TREE = "roots.trees['main']"


def raises(server, name, error):
    server.ask(f"{TREE}.faults[{name!r}] = lambda: (_ for _ in ()).throw({error})")


def listing(path):
    return sorted(entry.name for entry in path.iterdir())


def fails(code, function, *args):
    with pytest.raises(OSError) as caught:
        function(*args)
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def test_an_unexpected_exception_is_eio_and_the_mount_lives(fake):
    raises(fake, b"broken", "KeyError('never thought of')")
    for _ in range(3):
        fails(errno.EIO, (fake.point / "broken").stat)
    (fake.point / "sound").write_text("alive")
    assert (fake.point / "sound").read_text() == "alive"
    assert fake.ask("counters.unexpected_errors") >= 3
    assert fake.terminate() == "ended"
    assert "never thought of" in fake.errors() and "Traceback" in fake.errors()


def test_an_unexpected_exception_in_a_worker_is_eio_too(fake):
    fake.ask(f"{TREE}.fsync = lambda ino: 1 / 0")
    with (fake.point / "file").open("wb") as file:
        fails(errno.EIO, os.fsync, file.fileno())
        file.write(b"still works")
    assert (fake.point / "file").read_bytes() == b"still works"


def test_a_typed_error_is_its_errno_and_no_noise(fake):
    fake.ask("import mfs.errors, errno")
    raises(fake, b"full", "mfs.errors.NoSpace()")
    raises(fake, b"quota", "mfs.errors.QuotaExceeded(5)")
    raises(fake, b"os", "OSError(errno.ENOENT, 'the device went away')")
    fails(errno.ENOSPC, (fake.point / "full").touch)
    fails(errno.ENOSPC, (fake.point / "quota").touch)
    fails(errno.EIO, (fake.point / "os").touch)
    assert fake.ask("counters.unexpected_errors") == 0


def test_a_handler_that_breaks_system_exit_like_still_answers(fake):
    raises(fake, b"recursion", "RecursionError()")
    raises(fake, b"memory", "MemoryError()")
    fails(errno.EIO, (fake.point / "recursion").stat)
    fails(errno.ENOMEM, (fake.point / "memory").stat)


def test_a_slow_call_holds_up_nobody_once_it_is_known_as_slow(fake):
    fake.ask("import time")
    fake.ask(f"{TREE}.faults[b'slow'] = lambda: time.sleep(1)")
    (fake.point / "d").mkdir()  # the kernel itself lets only one at a time change a directory
    fails(errno.ENOENT, (fake.point / "slow").stat)  # the first one teaches
    slow = subprocess.Popen(["stat", str(fake.point / "slow")], stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    (fake.point / "d" / "quick").write_text("x")
    assert slow.poll() is None
    assert slow.wait() == 1


def sync_side_by_side(folder, count):
    """Threads that each write a file and make it durable."""

    def sync(number):
        with (folder / f"f{number}").open("wb") as file:
            os.fsync(file.fileno())

    threads = [threading.Thread(target=sync, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_fsyncs_that_come_together_share_a_call_and_hold_up_nobody(fake):
    fake.ask("import time")
    fake.ask("syncs = []")
    fake.ask(f"{TREE}.fsync = lambda ino: (syncs.append(ino), time.sleep(0.4)) and None")
    started = time.monotonic()
    threads = sync_side_by_side(fake.point, 6)
    time.sleep(0.1)
    (fake.point / "quick").write_text("x")
    quick_s = time.monotonic() - started
    for thread in threads:
        thread.join()
    assert quick_s < 0.35
    assert time.monotonic() - started < 1.5
    assert 2 <= fake.ask("len(syncs)") <= 3


def test_an_fsync_that_fails_fails_for_all_who_waited_for_it(fake):
    fake.ask("import time")
    fake.ask(f"{TREE}.fsync = lambda ino: (time.sleep(0.3), 1 / 0)")
    failed = []

    def sync(number):
        with (fake.point / f"f{number}").open("wb") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                failed.append(error.errno)

    threads = [threading.Thread(target=sync, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [errno.EIO] * 5
    fake.ask(f"{TREE}.fsync = lambda ino: None")
    with (fake.point / "after").open("wb") as file:
        os.fsync(file.fileno())


def test_a_folder_and_a_file_in_it_may_share_a_call(fake):
    fake.ask("import time")
    fake.ask("syncs = []")
    fake.ask(f"{TREE}.fsync = lambda ino: (syncs.append(ino), time.sleep(0.3)) and None")
    (fake.point / "other").touch()
    paths = [fake.point, fake.point / "other"]
    opened = [os.open(path, os.O_RDONLY) for path in paths]
    threads = sync_side_by_side(fake.point, 1)
    time.sleep(0.1)
    threads += [threading.Thread(target=os.fsync, args=(descriptor,)) for descriptor in opened]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    for descriptor in opened:
        os.close(descriptor)
    assert fake.ask("len(syncs)") == 2


def test_a_stuck_call_ends_at_its_deadline_and_its_caller_can_be_killed(fake):
    fake.ask("import threading")
    fake.ask("stuck = threading.Event()")
    fake.ask("mount._session.paces.sync.deadline_s = 0.3")
    fake.ask(f"{TREE}.fsync = lambda ino: stuck.wait(60) and None")
    with (fake.point / "file").open("wb") as file:
        started = time.monotonic()
        fails(errno.ETIMEDOUT, os.fsync, file.fileno())
        assert time.monotonic() - started < 5
    assert fake.ask("counters.timeouts") == 1
    fake.ask("stuck.set()")
    assert fake.terminate() == "ended"


def test_a_file_opened_too_late_for_its_caller_is_closed_again(fake):
    (fake.point / "file").write_text("x")
    fake.ask("import threading, time")
    fake.ask("mount._session.paces.open.deadline_s = 0.2")
    fake.ask("mount._session.paces.open.always_threaded = True")
    fake.ask(f"opens = {TREE}.open")
    fake.ask(f"{TREE}.open = lambda ino: (time.sleep(1), opens(ino)) and None")
    fails(errno.ETIMEDOUT, os.open, fake.point / "file", os.O_RDONLY)
    deadline = time.monotonic() + 10
    node = f"{TREE}.nodes[{TREE}.lookup(1, b'file').ino]"
    while fake.ask("len(mount._filesystem._handles)") and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.2)
    assert fake.ask("len(mount._filesystem._handles)") == 0
    assert fake.ask(f"{node}.opens") == 0


def test_missing_names_are_asked_for_once_below_the_top(fake):
    (fake.point / "d").mkdir()
    fake.ask(f"asked, lookup = [], {TREE}.lookup")
    fake.ask(f"{TREE}.lookup = lambda ino, name: asked.append(name) or lookup(ino, name)")
    for _ in range(5):
        assert not (fake.point / "d" / "missing").exists()
    assert fake.ask("asked.count(b'missing')") == 1
    (fake.point / "d" / "missing").touch()
    assert (fake.point / "d" / "missing").exists()


def test_attributes_and_content_stay_cached(fake):
    (fake.point / "d").mkdir()
    (fake.point / "d" / "file").write_bytes(b"x" * 10_000)
    fake.ask(f"asked, getattr_, read = [], {TREE}.getattr, {TREE}.read")
    fake.ask(f"{TREE}.getattr = lambda ino: asked.append('getattr') or getattr_(ino)")
    fake.ask(f"{TREE}.read = lambda *a: asked.append('read') or read(*a)")
    for _ in range(3):
        assert (fake.point / "d" / "file").read_bytes() == b"x" * 10_000
        (fake.point / "d" / "file").stat()
    assert fake.ask("asked.count('read')") <= 2  # nothing, or one request and one for the end
    time.sleep(1.5)
    before = fake.ask("len(asked)")
    (fake.point / "d" / "file").read_bytes()
    assert fake.ask("asked.count('read')") <= 2
    assert fake.ask("len(asked)") - before <= 1


def test_changes_beside_the_kernel_are_seen_at_once(fake):
    (fake.point / "d").mkdir()
    (fake.point / "d" / "old").write_text("old")
    assert (fake.point / "d" / "old").read_text() == "old"
    fake.ask("from tests.fusefs.fake_tree import FakeTree")
    fake.ask("fresh = FakeTree()")
    fake.ask("top = fresh.mkdir(1, b'd', 0o755, 0, 0)")
    fake.ask("made = fresh.create(top.ino, b'old', 0o644, 0, 0)")
    fake.ask("fresh.write(made.ino, 0, b'new content')")
    fake.ask("change = mount.changing('main')")
    fake.ask("change.__enter__()")
    fake.ask("roots.trees['main'] = fresh")
    fake.ask("change.__exit__(None, None, None)")
    assert (fake.point / "d" / "old").read_text() == "new content"
    assert listing(fake.point) == ["d"]


def test_a_file_open_while_its_root_is_replaced_is_stale(fake):
    with (fake.point / "file").open("w+b", buffering=0) as file:
        file.write(b"before")
        fake.ask("from tests.fusefs.fake_tree import FakeTree")
        fake.ask("change = mount.changing('main')")
        fake.ask("change.__enter__()")
        fake.ask("roots.trees['main'] = FakeTree()")
        fake.ask("change.__exit__(None, None, None)")
        with pytest.raises(OSError) as caught:
            file.write(b"after")
        assert caught.value.errno in (errno.ESTALE, errno.EIO)
    assert listing(fake.point) == []


def test_a_large_directory_is_listed_whole(fake):
    fake.ask(f"[{TREE}.create(1, b'n%05d' % n, 0o644, 0, 0) for n in range(3000)] and None")
    assert listing(fake.point) == [f"n{n:05}" for n in range(3000)]
    with os.scandir(fake.point) as entries:
        assert all(entry.is_file(follow_symlinks=False) for entry in entries)
    listed = subprocess.run(
        ["ls", "-a", fake.point], capture_output=True, text=True, check=True
    ).stdout.split()
    assert listed[:2] == [".", ".."] and len(listed) == 3002


def test_the_mount_shows_what_and_of_whom_it_is(fake):
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    line = next(line for line in table if str(fake.point) in line)
    assert " fuse.ipfs-mfs ipfs-mfs:main " in line
    assert "default_permissions" in line and "nosuid" in line and "nodev" in line
    assert os.statvfs(fake.point).f_namemax == 255


def read_ahead_kb(point):
    device = point.stat().st_dev
    return int(Path(f"/sys/class/bdi/0:{os.minor(device)}/read_ahead_kb").read_text())


@pytest.mark.needs_root
def test_the_kernel_reads_ahead_a_mebibyte(fake):
    assert read_ahead_kb(fake.point) == 1024


@pytest.mark.needs_root
def test_the_read_ahead_is_an_option(mounts):
    server = mounts.mount("read_ahead=256k", store="fake")
    assert read_ahead_kb(server.point) == 256


def test_a_read_only_mount_refuses_changes(mounts):
    server = mounts.mount("ro", store="fake")
    fails(errno.EROFS, (server.point / "new").touch)


def test_synchronous_writes_wait_for_the_store(mounts):
    server = mounts.mount("sync=always", store="fake")
    (server.point / "file").write_bytes(b"x")
    assert server.ask(f"[call[0] for call in {TREE}.calls].count('fsync')") >= 1


def test_closing_waits_for_the_store_when_asked_to(mounts):
    server = mounts.mount("sync=close", store="fake")
    (server.point / "file").write_bytes(b"x")
    assert server.ask(f"[call[0] for call in {TREE}.calls].count('fsync')") == 1
    (server.point / "file").read_bytes()
    assert server.ask(f"[call[0] for call in {TREE}.calls].count('fsync')") == 1


# ------------------------------------------------------------------------------ life cycle


def is_mounted(point):
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(point) for line in table)


def test_unmounting_syncs_and_ends_the_server(fake):
    (fake.point / "file").write_text("x")
    assert fake.terminate() == "ended"
    assert not is_mounted(fake.point)
    assert fake.process.returncode == 0


@pytest.mark.needs_root
def test_an_external_umount_ends_the_server_with_everything_synced(fake):
    fake.ask("roots.sync = lambda name=None: print('synced', name, flush=True)")
    subprocess.run(["umount", fake.point], check=True)
    assert fake.line() == "synced main"
    assert fake.wait_ended() == "ended"
    assert fake.process.returncode == 0


def test_fusermount_ends_the_server_too(fake):
    subprocess.run(["fusermount3", "-u", fake.point], check=True)
    assert fake.wait_ended() == "ended"


def test_a_busy_mount_says_so_and_stays(fake):
    with (fake.point / "open").open("w") as file:
        answer = fake.ask_raw("mount.unmount()")
        assert answer.startswith("! MountBusy:") and "fuser" in answer
        file.write("goes on")
    assert (fake.point / "open").read_text() == "goes on"
    assert fake.terminate() == "ended"


def test_a_lazy_unmount_does_not_wait_for_open_files(fake):
    descriptor = os.open(fake.point / "open", os.O_WRONLY | os.O_CREAT)
    fake.ask("import threading")
    fake.ask("threading.Thread(target=lambda: mount.unmount(lazy=True)).start()")
    assert fake.wait_ended() == "ended"
    fails(errno.ENOTCONN, os.write, descriptor, b"x")
    with contextlib.suppress(OSError):
        os.close(descriptor)
    assert not is_mounted(fake.point)


def test_an_error_of_the_last_sync_is_reported(fake):
    fake.ask("roots.sync = lambda name=None: 1 / 0")
    subprocess.run(["fusermount3", "-u", fake.point], check=True)
    assert fake.wait_ended() == "ended ZeroDivisionError: division by zero"
    assert fake.process.returncode == 1


def test_the_mount_point_of_a_killed_server_is_cleaned_up(mounts):
    first = mounts.mount(store="fake")
    first.kill()
    fails(errno.ENOTCONN, listing, mounts.point)
    second = mounts.mount(store="fake")
    (second.point / "file").write_text("x")
    assert second.terminate() == "ended"
    assert not is_mounted(mounts.point)


def test_a_second_server_at_one_mount_point_is_refused(fake, mounts):
    assert mounts.start(store="fake").wait_ended().startswith("ended AlreadyMounted: ")
    assert listing(fake.point) == []


@pytest.mark.parametrize("transport", [PYFUSE3], indirect=True, scope="module")
def test_a_second_mount_of_libfuse_in_one_process_is_refused_and_named(fake, mounts):
    other = mounts.folder / "other"
    other.mkdir()
    fake.ask("from fusefs.mount import Mount")
    answer = fake.ask_raw(f"Mount(roots, {str(other)!r}).run()")
    assert answer.startswith("! SessionLimit: ")
    assert str(fake.point) in answer and "-o all" in answer


@pytest.mark.parametrize("transport", [KERNEL], indirect=True, scope="module")
def test_one_process_may_serve_several_mounts_without_libfuse(fake, mounts):
    other = mounts.folder / "second"
    other.mkdir()
    fake.ask("import threading")
    fake.ask("from fusefs.mount import Mount")
    fake.ask("from fusefs.options import MountOptions")
    options = "MountOptions.parse('root=other,transport=kernel')"
    fake.ask(f"second = Mount(roots, {str(other)!r}, {options})")
    fake.ask("up = threading.Event()")
    fake.ask("threading.Thread(target=second.run, args=(up.set,)).start()")
    assert fake.ask("up.wait(20)")
    (other / "file").write_text("of the other root")
    assert (other / "file").read_text() == "of the other root"
    assert listing(fake.point) == []
    fake.ask("second.unmount()")
    assert listing(other) == []
    (fake.point / "still").write_text("there")
    assert fake.terminate() == "ended"


def test_what_is_in_the_way_is_named(mounts):
    (mounts.point / "file").touch()
    assert mounts.start(store="fake").wait_ended().startswith("ended MountPointNotEmpty: ")
    server = mounts.mount("nonempty", store="fake")
    assert listing(server.point) == []
    server.terminate()
    assert listing(mounts.point) == ["file"]


def test_a_root_that_is_not_there_is_named_before_anything_is_mounted(mounts):
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from fusefs.mount import Mount\n"
        "from fusefs.options import MountOptions\n"
        "from tests.fusefs.fake_tree import FakeRoots\n"
        f"Mount(FakeRoots('main'), {str(mounts.point)!r}, MountOptions(root='nope'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert "RootNotFound" in done.stderr
    assert not is_mounted(mounts.point)


def test_a_failing_ready_ends_the_mount_and_is_reported(mounts, transport):
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from fusefs.mount import Mount\n"
        "from fusefs.options import MountOptions\n"
        "from tests.fusefs.fake_tree import FakeRoots\n"
        "def ready(): raise RuntimeError('nobody listens')\n"
        f"options = MountOptions(transport={transport!r})\n"
        f"Mount(FakeRoots('main'), {str(mounts.point)!r}, options).run(ready)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "nobody listens" in done.stderr
    assert not is_mounted(mounts.point)


WAITS = """
import ctypes, os, signal, sys
if sys.argv[2] == "alarms":
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
print("waits", flush=True)
libc = ctypes.CDLL(None, use_errno=True)
print(libc.fsync(descriptor), ctypes.get_errno(), flush=True)
"""


def waiting(point, how):
    """A process that is in `fsync`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(point / "file"), how], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waits\n"
    return process


@pytest.mark.parametrize("transport", [KERNEL], indirect=True, scope="module")
def test_a_process_that_waits_can_be_killed_long_before_the_deadline(fake):
    fake.ask("import threading")
    fake.ask("stuck = threading.Event()")
    fake.ask(f"{TREE}.fsync = lambda ino: stuck.wait(60) and None")
    process = waiting(fake.point, "quietly")
    time.sleep(0.2)
    started = time.monotonic()
    process.kill()
    process.wait(20)
    assert time.monotonic() - started < 10
    process.stdout.close()
    (fake.point / "others").write_text("go on")
    fake.ask("stuck.set()")
    assert fake.terminate() == "ended"


@pytest.mark.parametrize("transport", [KERNEL], indirect=True, scope="module")
def test_an_fsync_does_not_fail_because_an_alarm_goes_off(fake):
    fake.ask("import time")
    fake.ask(f"{TREE}.fsync = lambda ino: time.sleep(2.5)")
    process = waiting(fake.point, "alarms")
    assert process.stdout.readline() == "0 0\n"
    process.wait(20)
    process.stdout.close()


@pytest.mark.parametrize("transport", [KERNEL], indirect=True, scope="module")
def test_a_mount_whose_serving_fails_is_taken_away_and_the_failure_said(fake):
    fake.ask("mount._session._crew._serve = lambda turn: 1 / 0")
    with pytest.raises(OSError):
        (fake.point / "wakes the reader").touch()
        (fake.point / "meets nobody").touch()
    assert fake.wait_ended().startswith("ended ZeroDivisionError")
    assert not is_mounted(fake.point)
