"""Bad input of every kind: one line on standard error, the right exit status, nothing lost."""

import os
import random
import shutil
import subprocess
from contextlib import closing

import pytest

from blkdev.devices.file import FileDevice
from blkdev.store import Store
from datastore import BlkdevDatastore, Key
from ipfs_mfs import main as program
from ipfs_mfs.config import Config
from ipfs_mfs.formatting import format_store
from ipfs_mfs.node import Node
from ipfs_mfs.owner import place_of
from ipld import cid as cids
from ipld.block import Block
from ipld.car import write_car
from ipld.filedag import add_bytes
from ipld.profile import UNIXFS_V1_2025

SIZE_BYTES = 64 << 20


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store that every command finds."""
    path = tmp_path / "store.blk"
    monkeypatch.setenv("IPFS_MFS_STORE", str(path))
    monkeypatch.setenv("IPFS_MFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("IPFS_MFS_BUSY_WAIT", "0.3")
    config = Config(
        store=path,
        store_size_bytes=SIZE_BYTES,
        segment_size_bytes=4 << 20,
        runtime_dir=tmp_path / "run",
    )
    format_store(config, size_bytes=None, force=False)
    return path


@pytest.fixture
def run(capfdbinary):
    """Runs a command line in this process; its status, standard output and its one error line."""

    def call(*arguments):
        capfdbinary.readouterr()
        status = program.run([str(argument) for argument in arguments])
        captured = capfdbinary.readouterr()
        error = captured.err.decode()
        assert "Traceback" not in error
        if status:
            last = error.splitlines()[-1]
            assert last.startswith("ipfs-mfs: "), error
            assert len(error.splitlines()) == 1, error
        return status, captured.out, error

    return call


def content(tmp_path, size=3 << 20):
    path = tmp_path / "content"
    path.write_bytes(random.Random(7).randbytes(size))
    return path


# ------------------------------------------------------------------------------- the device


def test_no_store_says_how_to_make_one(store, run, tmp_path):
    status, _, error = run("root", "list", "--store", tmp_path / "nothing.blk")
    assert status == 3
    assert "there is no store" in error
    assert "ipfs-mfs format" in error


def test_a_file_that_is_no_store_is_refused_and_left_alone(store, run, tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("my notes\n" * 100_000)
    before = other.read_bytes()
    status, _, error = run("root", "list", "--store", other)
    assert status == 1
    assert "is not a store" in error
    assert other.read_bytes() == before


@pytest.mark.parametrize("kind", ["directory", "empty", "fifo"])
def test_a_store_path_of_another_kind_is_refused(store, run, tmp_path, kind):
    path = tmp_path / "odd"
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    else:
        os.mkfifo(path)
    for command in (["root", "list"], ["doctor", "-q"]):
        assert run(*command, "--store", path)[0] in (1, 3, 6)
    assert path.exists()


def test_a_foreign_file_system_is_not_formatted_without_force(store, run, tmp_path):
    image = tmp_path / "ext4.img"
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    mkfs = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
    subprocess.run([mkfs, "-q", "-F", image], check=True)
    before = image.read_bytes()
    status, _, error = run("format", image)
    assert status == 1
    assert "ext" in error
    assert "force" in error
    assert image.read_bytes() == before
    assert run("format", image, "--force")[0] == 0
    assert run("root", "list", "--store", image)[0] == 0


def test_an_existing_store_is_not_formatted_without_force(store, run, tmp_path):
    cid = run("add", "-Q", content(tmp_path))[1].decode().strip()
    status, _, error = run("format", store)
    assert status == 1
    assert "already is a store" in error
    assert run("cat", cid)[0] == 0
    assert run("format", store, "--force")[0] == 0
    assert run("cat", cid)[0] == 3


def test_a_device_that_is_too_small_is_named(store, run, tmp_path):
    status, _, error = run("format", tmp_path / "small.blk", "--size", "1M")
    assert status == 6
    assert "small.blk" in error


def test_a_segment_size_outside_the_limits_is_wrong_usage(store, run, tmp_path):
    status, _, _ = run("format", tmp_path / "s.blk", "--size", "1G", "--segment-size", "12345")
    assert status == 2


def test_a_truncated_store_is_refused(store, run):
    with store.open("r+b") as file:
        file.truncate(SIZE_BYTES // 2)
    status, _, _ = run("root", "list")
    assert status in (5, 6)


def test_a_store_of_a_newer_version_is_refused_and_left_alone(store, run):
    from blkdev import superblock
    from blkdev.devices.file import FileDevice

    device = FileDevice(store)
    block = superblock.load(device)
    superblock.store(device, block._replace(features_incompatible=1 << 31))
    device.close()
    before = store.read_bytes()
    status, _, error = run("root", "list")
    assert status == 1
    assert "newer" in error
    assert store.read_bytes() == before


@pytest.mark.needs_root
@pytest.mark.slow
def test_a_read_only_store_can_be_read_and_not_written(store, run, tmp_path):
    cid = run("add", "-Q", content(tmp_path))[1].decode().strip()
    image = tmp_path / "mnt"
    image.mkdir()
    subprocess.run(["mount", "--bind", tmp_path, image], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", image], check=True)
        read_only = image / store.name
        status, out, _ = run("cat", cid, "--store", read_only)
        assert status == 0
        assert out == content(tmp_path).read_bytes()
        assert run("root", "list", "--store", read_only)[0] == 0
        status, _, error = run("root", "create", "x", "--store", read_only)
        assert status in (1, 6)
        assert "read-only" in error
    finally:
        subprocess.run(["umount", image], check=True)


def test_a_store_that_another_process_owns_names_its_pid(store, run, tmp_path):
    config = Config(store=store, runtime_dir=tmp_path / "run")
    lock = place_of(config).try_lock()
    assert lock is not None
    node = Node.open(config, lock)
    try:
        status, _, error = run("root", "list")
        assert status == 4
        assert f"process {os.getpid()}" in error
    finally:
        node.close()
    assert run("root", "list")[0] == 0


@pytest.fixture
def values(tmp_path, monkeypatch):
    """A datastore that every command finds."""
    path = tmp_path / "values.blk"
    monkeypatch.setenv("IPFS_MFS_STORE", str(path))
    monkeypatch.setenv("IPFS_MFS_RUNTIME_DIR", str(tmp_path / "run"))
    device = FileDevice(path, create_size_bytes=SIZE_BYTES)
    Store.format(device)
    with closing(BlkdevDatastore(Store.open(device))) as datastore:
        datastore.put(Key("/key"), b"a value of a datastore")
    return path


@pytest.mark.parametrize("command", [("root", "list"), ("gc",), ("add", "-Q", "/dev/null")])
def test_the_store_of_a_datastore_is_refused_and_keeps_its_values(values, run, command):
    status, out, error = run(*command)
    assert status == 1
    assert out == b""
    assert "holds a datastore" in error
    assert "another device" in error
    with closing(BlkdevDatastore(Store.open(FileDevice(values)))) as datastore:
        assert datastore.get(Key("/key")) == b"a value of a datastore"


def test_the_store_of_a_datastore_is_checked_scrubbed_and_repaired(values, run):
    assert run("scrub")[0] == 0
    status, out, _ = run("check")
    assert status == 0
    assert b"note: roots: they cannot be opened" in out
    with values.open("r+b") as file:
        file.seek(values.read_bytes().index(b"of a datastore"))
        file.write(b"!")
    assert run("check")[0] == 5
    assert run("check", "--repair")[0] in (0, 5)
    assert run("check")[0] == 0
    with closing(BlkdevDatastore(Store.open(FileDevice(values)))) as datastore:
        assert not datastore.has(Key("/key"))


# ---------------------------------------------------------------------------- damaged images


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_image_gives_right_bytes_or_a_typed_error(store, run, tmp_path, seed):
    source = content(tmp_path)
    cid = run("add", "-Q", source)[1].decode().strip()
    rng = random.Random(seed)
    used = [at for at in range(0, SIZE_BYTES, 4096) if is_used(store, at)]
    with store.open("r+b") as file:
        for _ in range(rng.choice((1, 3, 30))):
            file.seek(rng.choice(used) + rng.randrange(4096))
            file.write(rng.randbytes(rng.choice((1, 16, 600))))
    status, out, _ = run("cat", cid)
    assert status in (0, 1, 3, 5)
    if status == 0:
        assert out == source.read_bytes()
    else:
        assert source.read_bytes().startswith(out), "never a wrong byte"
    assert run("check")[0] in (0, 1, 5)
    assert run("root", "list")[0] in (0, 1, 5)


def is_used(path, offset):
    with path.open("rb") as file:
        file.seek(offset)
        return any(file.read(4096))


def test_check_names_the_path_that_a_damaged_block_hits(store, run, tmp_path):
    source = content(tmp_path)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    source.rename(tree / "sub/photo.jpg")
    (tree / "ok").write_text("fine")
    cid = run("add", "-Q", "-r", tree)[1].decode().strip()
    run("root", "create", "album", "--cid", cid)
    leaf = (tree / "sub/photo.jpg").read_bytes()[1 << 20 : (1 << 20) + 64]
    image = store.read_bytes()
    at = image.index(leaf)
    with store.open("r+b") as file:
        file.seek(at + 10)
        file.write(b"damage")
    status, out, error = run_damaged(run)
    assert status == 5
    text = out.decode()
    assert "root album: sub/photo.jpg" in text
    assert f"pin {cid}: sub/photo.jpg" in text
    assert ": ok" not in text
    assert "restore" in error
    assert run("cat", f"{cid}/ok")[1] == b"fine"
    status, out, _ = run("cat", f"{cid}/sub/photo.jpg")
    assert status == 5
    assert len(out) <= 1 << 20


def run_damaged(run):
    return run("check")


def test_check_names_a_missing_block(store, run, tmp_path):
    cid = run("add", "-Q", content(tmp_path))[1].decode().strip()
    config = Config(store=store, runtime_dir=tmp_path / "run")
    lock = place_of(config).try_lock()
    assert lock is not None
    node = Node.open(config, lock)
    leaf = next(
        key
        for key in node._repo.blocks.keys()  # noqa: SIM118  # a BlockStore is no dict
        if node._repo.blocks.size_of(cids.make(1, cids.RAW, key)) == 1 << 20
    )
    node._repo.blocks.delete_many([leaf])
    node.close()
    status, out, _ = run("check")
    assert status == 5
    assert "not here" in out.decode()
    assert run("cat", cid)[0] == 3


# -------------------------------------------------------------------------------- CAR files


def car_of(tmp_path, blocks, roots, name="x.car"):
    path = tmp_path / name
    with path.open("wb") as file:
        write_car(roots, blocks, file.write)
    return path


def dag():
    blocks = []
    link = add_bytes(random.Random(3).randbytes(3 << 20), UNIXFS_V1_2025, blocks.append)
    return blocks, link.cid


def test_a_good_car_is_imported_and_pinned(store, run, tmp_path):
    blocks, root = dag()
    assert run("import", car_of(tmp_path, blocks, [root]))[0] == 0
    assert run("cat", cids.to_text(root))[0] == 0
    assert cids.to_text(root).encode() in run("pin", "ls")[1]


def test_a_lying_car_is_refused(store, run, tmp_path):
    blocks, root = dag()
    blocks[1] = Block(blocks[1].cid, b"not these bytes")
    status, _, error = run("import", car_of(tmp_path, blocks, [root]))
    assert status == 5
    assert "do not hash to" in error
    assert run("pin", "ls")[1] == b""
    assert run("check")[0] == 0


def test_a_car_that_lacks_a_block_is_refused_by_name(store, run, tmp_path):
    blocks, root = dag()
    status, _, error = run("import", car_of(tmp_path, blocks[1:], [root]))
    assert status == 3
    assert cids.to_text(blocks[0].cid) in error
    assert run("pin", "ls")[1] == b""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_car_is_refused_or_harmless(store, run, tmp_path, seed):
    blocks, root = dag()
    path = car_of(tmp_path, blocks, [root])
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    if seed % 3 == 0:
        del data[rng.randrange(len(data)) :]
    for _ in range(seed % 4):
        data[rng.randrange(min(len(data), 300) or 1)] = rng.randrange(256)
    path.write_bytes(data)
    status, _, _ = run("import", path)
    assert status in (0, 1, 2, 3, 5)
    assert run("check")[0] == 0


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 11, b"hello world\n", b"\x0a\xa1"])
def test_what_is_no_car_is_refused(store, run, tmp_path, data):
    path = tmp_path / "x.car"
    path.write_bytes(data)
    assert run("import", path)[0] == 5


def test_a_car_without_a_single_root_makes_no_root(store, run, tmp_path):
    blocks, root = dag()
    path = car_of(tmp_path, blocks, [root, root])
    status, _, error = run("import", path, "--root", "x")
    assert status == 2
    assert "2 roots" in error
    assert run("import", tmp_path / "missing.car")[0] == 3


def test_a_root_is_made_of_directories_only(store, run, tmp_path):
    blocks, root = dag()
    status, _, error = run("import", car_of(tmp_path, blocks, [root]), "--root", "x")
    assert status == 1
    assert "not a UnixFS directory" in error
    assert b"x " not in run("root", "list")[1]


# -------------------------------------------------------------------------- CIDs and names


@pytest.mark.parametrize(
    ("cid", "statuses"),
    [
        ("bafy", (3,)),  # too short for a CID: a root of that name
        ("bagyacvra", (1, 2, 3)),
        (cids.to_text(cids.make(1, 0x70, bytes.fromhex("d50110") + bytes(16))), (1, 2, 3)),  # md5
        (cids.to_text(cids.make(1, 0x78, bytes.fromhex("1220") + bytes(32))), (1, 2, 3)),  # git
        ("/ipfs/" + "Q" * 46, (2,)),
        ("Qm" + "x" * 300, (2, 3)),
        ("/ipns/example.org", (2,)),
    ],
)
@pytest.mark.parametrize("verb", ["cat", "ls", "stat", "get", "export"])
def test_an_unknown_or_broken_cid_is_a_typed_error(
    store, run, tmp_path, monkeypatch, cid, statuses, verb
):
    monkeypatch.chdir(tmp_path)
    arguments = ["-o", tmp_path / "out"] if verb in ("get", "export") else []
    status, out, _ = run(verb, cid, *arguments)
    assert status in statuses
    assert out == b""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 256, "../etc", "a/b", "", ".", "..", "a\nb", "-"])
def test_a_name_for_a_root_is_checked(store, run, name):
    status, _, _ = run("root", "create", "--", name)
    assert status == (0 if name == "-" else 2)


def test_a_path_of_256_bytes_is_refused_and_255_is_not_found(store, run):
    assert run("cat", "main/" + "x" * 256)[0] == 2
    assert run("cat", "main/" + "x" * 255)[0] == 3
    assert run("cat", "main/../x")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["root", "stat", "nothing"], 3),
        (["root", "drop", "nothing"], 3),
        (["root", "drop", "main@nothing"], 3),
        (["root", "restore", "main@nothing"], 3),
        (["root", "clone", "nothing", "x"], 3),
        (["root", "snapshots", "nothing"], 3),
        (["root", "diff", "main", "nothing"], 3),
        (["root", "log", "nothing"], 3),
        (["root", "create", "main"], 1),
        (["root", "create", "x", "--profile", "nonsense"], 2),
        (["root", "create", "x", "--cid", "nonsense"], 3),
        (["sync", "nothing"], 3),
        (["pin", "rm", "main"], 3),
        (["cat", "main"], 3),
        (["get", "main/nothing"], 3),
        (["completion", "tcsh"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_is_not_there_or_wrong_has_its_status(store, run, arguments, status):
    assert run(*arguments)[0] == status


def test_get_refuses_an_existing_target_and_export_too(store, run, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for verb in ("get", "export"):
        status, _, error = run(verb, "main", "-o", mine)
        assert status == 1
        assert "exists already" in error
        assert mine.read_text() == "mine"
    status, _, _ = run("export", "main", "-o", tmp_path / "no/such/folder.car")
    assert status == 3
