"""kill -9 while a process writes: what it acknowledged is there, bit for bit.

`KILL_COUNT` sets how often, `KILL_SEED` when. The child tells what it committed through a pipe;
whatever it told before it died must be there, in the file or on the device that it left.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blkdev.device import open_device
from blkdev.devices.file import FileDevice
from blkdev.store import Store
from tests.blkdev import loops
from tests.blkdev.devices import SIZE_BYTES, SMALL_SEGMENT_BYTES, assert_sound, block

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILL_COUNT", "200"))
KILLS_QUICK = 10
SEED = int(os.environ.get("KILL_SEED", "1"))

WRITER = """
import random, sys
from blkdev.device import open_device
from blkdev.store import Store
from tests.blkdev.devices import block

path, first = sys.argv[1], int(sys.argv[2])
store = Store.open(open_device(path))
rng = random.Random(first)
number = first
alive = []
while True:
    many = range(number, number + rng.randrange(1, 12))
    number = many.stop
    store.put_many([block(n, 32 + n * 7919 % 6000) for n in many])
    store.set_name(b"newest", b"%d" % (number - 1))
    store.commit()
    print("+", *many, flush=True)
    alive += many
    if len(alive) > 150:
        gone, alive = alive[:100], alive[100:]
        print("?", *gone, flush=True)
        store.delete_many([block(n, 32 + n * 7919 % 6000)[0] for n in gone])
        store.commit()
        print("-", *gone, flush=True)
    choice = rng.random()
    if choice < 0.05:
        store.compact()
    elif choice < 0.1:
        store.checkpoint()
"""


STREAMER = """
import random, sys
from blkdev.device import open_device
from blkdev.store import Store
from tests.blkdev.test_kill import streamed

path, first = sys.argv[1], int(sys.argv[2])
store = Store.open(open_device(path))
rng = random.Random(first)
for number in range(first, first + 100_000):
    store.put_many([streamed(number)])
    if rng.random() < 0.05:
        rng.choice((store.commit, store.write_out))()
        # Only a stream has groups on their way: what is written at once is tested above.
        print(number, len(store.device._behind), flush=True)
"""
STREAM_SIZE_BYTES = 640 << 20


def streamed(number: int) -> tuple[bytes, bytes]:
    """A value of a mebibyte or less; quick to make, and no page of it like another's."""
    size_bytes = (1 << 20) - number % 7 * 100_000
    return b"stream %d" % number, number.to_bytes(8, "little") * (size_bytes // 8)


def survive_as_a_stream(path: Path, kills: int) -> None:
    """Large groups are on their way to the device, in another thread, when the process dies."""
    print(f"KILL_SEED={SEED}")
    rng = random.Random(SEED)
    behind = 0
    for round_ in range(kills):
        first = (round_ + 1) * 100_000
        with contextlib.closing(open_device(path)) as device:
            Store.format(device, segment_size_bytes=8 << 20, force=True)
        command = [sys.executable, "-c", STREAMER, str(path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            told = [writer.stdout.readline() for _ in range(rng.randrange(1, 5))]
            time.sleep(rng.random() * 0.02)
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.readlines()
            assert writer.wait(60) == -signal.SIGKILL
        lines = [line.split() for line in told if line.endswith("\n")]
        behind += sum(int(count) for _, count in lines)
        newest = int(lines[-1][0])
        with Store.open(open_device(path)) as store:
            assert_sound(store)
            found = sorted(int(key.split()[1]) for key in list(store.keys()))
            assert found == list(range(first, first + len(found))), "one is missing in between"
            assert found[-1] >= newest
            assert all(store.get(key) == value for key, value in map(streamed, found))
    assert behind, "nothing was ever on its way, so nothing was tested"


def numbered(number: int) -> tuple[bytes, bytes]:
    return block(number, 32 + number * 7919 % 6000)


def killed_writer(path, first: int, lines: int) -> list[list[str]]:
    """What a writer told before it was killed after that many lines."""
    command = [sys.executable, "-c", WRITER, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        told = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.readlines()
        assert writer.wait(60) == -signal.SIGKILL
    return [line.split() for line in told if line.endswith("\n")]


def survive(path: Path, kills: int) -> None:
    """Write to a new store at `path`, kill, look, again and again."""
    print(f"KILL_SEED={SEED}")
    with contextlib.closing(open_device(path)) as device:
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    rng = random.Random(SEED)
    alive: set[int] = set()
    deleted: set[int] = set()
    for round_ in range(kills):
        unsure: set[int] = set()
        told = killed_writer(path, (round_ + 1) * 100_000, rng.randrange(1, 60))
        assert told
        for sign, *words in told:
            numbers = set(map(int, words))
            if sign == "+":
                alive |= numbers
            elif sign == "?":
                unsure = numbers
            else:
                alive -= numbers
                deleted |= numbers
        with Store.open(open_device(path)) as store:
            assert_sound(store)
            for number in sorted(alive - unsure):
                key, value = numbered(number)
                assert store.get(key) == value, number
            assert not any(store.has_many(numbered(number)[0] for number in deleted))
            left = {number for number in unsure & alive if store.has(numbered(number)[0])}
            assert left in (set(), unsure & alive), "a delete was done by halves"
            deleted |= (unsure & alive) - left
            alive -= unsure - left
            newest = store.name(b"newest")
            assert newest is not None and int(newest) >= max(alive | deleted)
            if round_ % 3 == 2:
                store.delete_many(list(store.keys()))
                deleted |= alive
                alive.clear()


@pytest.fixture
def size_bytes():
    return SIZE_BYTES


@pytest.fixture
def file(tmp_path, size_bytes):
    path = tmp_path / "store"
    FileDevice(path, create_size_bytes=size_bytes).close()
    return path


@pytest.fixture
def loop_device(tmp_path, size_bytes):
    with loops.attached(tmp_path / "disk", size_bytes) as name:
        yield Path(name)


def test_acknowledged_keys_in_a_file_survive_kill_9_and_deleted_ones_stay_away(file):
    survive(file, KILLS_QUICK)


@pytest.mark.needs_root
def test_acknowledged_keys_on_a_device_survive_kill_9_and_deleted_ones_stay_away(loop_device):
    survive(loop_device, KILLS_QUICK)


@pytest.mark.parametrize("size_bytes", [STREAM_SIZE_BYTES])
def test_what_a_stream_acknowledged_survives_kill_9_in_a_file(file):
    survive_as_a_stream(file, KILLS_QUICK)


@pytest.mark.needs_root
@pytest.mark.parametrize("size_bytes", [STREAM_SIZE_BYTES])
def test_what_a_stream_acknowledged_survives_kill_9_on_a_device(loop_device):
    survive_as_a_stream(loop_device, KILLS_QUICK)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_file_survives_many_times_kill_9(file):
    survive(file, KILLS)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.needs_root
def test_device_survives_many_times_kill_9(loop_device):
    survive(loop_device, KILLS)
