"""check --repair, scrub and dump as their users call them, on whole and on damaged stores."""

import contextlib
import json
import random

import pytest

from blkdev import superblock
from blkdev.device import open_device
from blkdev.store import Store
from ipfs_mfs import main as program
from ipfs_mfs.config import Config
from ipfs_mfs.formatting import format_store
from tests.ipfs_mfs.program import wait_until

DATA = random.Random(5).randbytes(2_500_000)


class Shop:
    """A store in a file, and command lines run in this process."""

    def __init__(self, base, capfdbinary):
        self.path = base / "store.blk"
        self.base = base
        self._captured = capfdbinary
        config = Config(store=self.path, runtime_dir=base / "run")
        format_store(config, size_bytes=128 << 20, force=False)

    def run(self, *arguments, status=0):
        """(standard output, standard error) as text."""
        self._captured.readouterr()
        found = program.run([str(argument) for argument in arguments])
        out, err = (stream.decode() for stream in self._captured.readouterr())
        assert found == status, (found, out, err)
        assert "Traceback" not in err
        if status:
            assert err.splitlines()[-1].startswith("ipfs-mfs: ")
        return out, err

    def records(self, *arguments, status=0):
        out, _ = self.run(*arguments, "--json", status=status)
        return [json.loads(line) for line in out.splitlines()]

    def add(self, data=DATA):
        (self.base / "file").write_bytes(data)
        return self.run("add", "-Q", self.base / "file")[0].strip()

    def rot(self, needle, at=0):
        """One wrong byte where the store holds `needle`."""
        image = bytearray(self.path.read_bytes())
        found = image.find(needle)
        assert found >= 0
        image[found + at] ^= 1
        self.path.write_bytes(image)
        return found

    def rot_name(self, name):
        """One wrong byte in the value of a name."""
        with Store.open(open_device(self.path)) as store:
            offset = store._volume.device_offset(store._catalog.names[name].location)
        with self.path.open("r+b") as file:
            file.seek(offset + 24 + len(name) + 3)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))


@pytest.fixture
def shop(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setenv("IPFS_MFS_STORE", str(tmp_path / "store.blk"))
    monkeypatch.setenv("IPFS_MFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return Shop(tmp_path, capfdbinary)


# ------------------------------------------------------------------------ check --repair


def test_repair_of_a_sound_store_says_so(shop):
    shop.add()
    (record,) = shop.records("check", "--repair")
    assert record["findings"] == []
    assert record["repair"] == dict.fromkeys(record["repair"], 0)
    assert "clean: " in shop.run("check", "--repair")[0]


@pytest.mark.slow
def test_rotten_block_is_dropped_named_and_whole_after_it_is_added_again(shop):
    cid = shop.add()
    shop.rot(DATA[:64], 20)
    (before,) = shop.records("check", status=5)
    (named,) = [f for f in before["findings"] if f["where"].startswith("device offset")]
    assert named["severity"] == "damaged"
    assert any(f["where"].startswith("pin ") for f in before["findings"])
    (record,) = shop.records("check", "--repair", status=5)
    (dropped,) = [f for f in record["findings"] if f["severity"] == "repaired"]
    assert dropped["cid"] == named["cid"]
    assert dropped["problem"].startswith("dropped: ")
    assert (record["repair"]["records_lost"], record["repair"]["segments_freed"]) == (1, 1)
    assert record["repair"]["records_kept"] > 2
    assert shop.run("cat", cid, status=3)[0] == ""
    assert shop.add() == cid
    assert shop.records("check")[0]["findings"] == []
    assert shop.run("get", cid, "-o", "copy")
    assert (shop.base / "copy").read_bytes() == DATA


def test_damaged_root_is_told_before_a_repair_and_gone_after_it(shop):
    cid = shop.add()
    shop.run("root", "create", "other")
    shop.rot_name(b"root/main")
    _, err = shop.run("root", "list", status=5)
    assert "check --repair" in err
    out, _ = shop.run("check", status=5)
    assert "name root/main: a value fails its checksum" in out
    assert "roots: they cannot be opened" in out
    out, _ = shop.run("check", "--repair", status=5)
    assert "lost: name root/main: dropped" in out
    assert [record["name"] for record in shop.records("root", "list")] == ["other"]
    assert shop.records("check")[0]["findings"] == []
    assert shop.records("stat", cid)[0]["size_bytes"] == len(DATA)


def test_damaged_superblock_copy_is_repaired(shop):
    shop.add()
    with shop.path.open("r+b") as file:
        file.seek(4 << 20)
        file.write(bytes(4096))
    shop.run("check", "--repair")
    with_copies = [record["damaged"] for record in shop.records("dump")]
    assert with_copies == [""] * 4


def test_store_without_a_superblock_is_damaged_in_one_line(shop):
    with contextlib.closing(open_device(shop.path)) as device:
        offsets = superblock.Geometry.of(superblock.load(device)).copy_offsets
    with shop.path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset + 200)
            file.write(b"wrong")
    for command in (["check"], ["check", "--repair"], ["scrub"], ["dump", "segments"]):
        out, err = shop.run(*command, status=5)
        assert out == ""
        assert "every copy of the superblock is damaged" in err
    shown = shop.records("dump")
    assert all("checksum" in record["damaged"] for record in shown)
    assert {record["fields"]["segment_count"] for record in shown} == {28}


# --------------------------------------------------------------------------------- scrub


def test_scrub_of_a_sound_store_is_clean(shop):
    shop.add()
    (record,) = shop.records("scrub")
    assert record["findings"] == []
    assert record["resumed"] is False
    assert record["bytes_read"] > len(DATA)
    assert shop.run("scrub", "--restart")[0].startswith("clean: ")
    assert shop.run("scrub", "--rate", "1G", "-q")[1] == ""


def test_scrub_names_a_rotten_block_and_exits_with_5(shop):
    shop.add()
    shop.rot(DATA[:64], 20)
    (record,) = shop.records("scrub", status=5)
    (finding,) = record["findings"]
    assert finding["cid"].startswith("bafk")
    assert "fails its checksum" in finding["problem"]
    out, err = shop.run("scrub", status=5)
    assert out.startswith("damaged: ")
    assert finding["cid"] in out
    assert "check --repair" in err


@pytest.mark.parametrize("rate", ["", "fast", "-1M", "0", "nan"])
def test_rate_that_is_none_is_wrong_usage(shop, rate):
    shop.run("scrub", "--rate", rate, status=2)


def test_store_that_is_missing_is_not_found(shop):
    for command in ("check", "scrub", "dump"):
        shop.run(command, "--store", shop.base / "none", status=3)


# ---------------------------------------------------------------------------------- dump


def test_dump_shows_each_structure_to_people_and_programs(shop):
    cid = shop.add()
    assert shop.run("dump")[0].count("superblock at ") == 4
    assert len(shop.run("dump", "segments")[0].splitlines()) == 28
    lines = shop.run("dump", "segment", 0)[0].splitlines()
    assert sum(line.startswith("record at ") for line in lines) > 4
    (block,) = shop.records("dump", "record", cid)
    (again,) = shop.records("dump", "record", block["fields"]["key"])
    assert block == again
    by_offset = shop.records("dump", "record", block["device_offset"] + 30)
    assert by_offset[-1] == block
    (name,) = shop.records("dump", "record", "root/main")
    assert name["fields"]["record"] == "name"
    assert name in shop.records("dump", "names")
    assert shop.records("dump", "journals") == []
    assert shop.run("dump", "checkpoint")[0].startswith("checkpoint at ")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["everything"], 2),
        (["segment"], 2),
        (["segment", "x"], 2),
        (["segment", "9999"], 3),
        (["record"], 2),
        (["record", "5"], 3),
        (["superblock", "x", "y"], 2),
    ],
)
def test_what_cannot_be_shown_is_one_line(shop, arguments, status):
    shop.run("dump", *arguments, status=status)


def test_record_that_is_not_there_is_said_to_be_none(shop):
    out, err = shop.run("dump", "record", "no such name")
    assert (out, err) == ("", "nothing of that kind is here\n")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
def test_dump_of_a_damaged_store_shows_the_damage_and_changes_nothing(shop, seed):
    shop.add()
    rng = random.Random(seed)
    image = bytearray(shop.path.read_bytes())
    for _ in range(40):
        at = (8 << 20) + rng.randrange(3 << 20)
        image[at] ^= 1 + rng.randrange(255)
    image[8 << 20 : (8 << 20) + 64] = rng.randbytes(64)
    shop.path.write_bytes(image)
    shown = shop.records("dump", "segments") + shop.records("dump", "segment", 0)
    assert any(record["damaged"] for record in shown)
    for what in ("names", "journals", "checkpoint"):
        shop.run("dump", what)
    assert shop.path.read_bytes() == image


# ---------------------------------------------------------------- with a daemon; interrupted


@pytest.fixture
def mounted(world):
    world.store.parent.mkdir(parents=True)
    world.run("format", world.store, "--size", "256M", "--segment-size", "4M")
    (world.base / "big").write_bytes(random.Random(11).randbytes(24 << 20))
    world.run("mount", world.mountpoint)
    world.run("add", "-Q", world.base / "big")
    return world


@pytest.mark.needs_fuse
def test_a_daemon_does_the_same_beside_its_mount(mounted):
    (mounted.mountpoint / "x").write_text("hello")
    assert mounted.run("scrub", "--json").record["findings"] == []
    repaired = mounted.run("check", "--repair", "--json").record
    assert repaired["findings"] == []
    assert repaired["roots"] == 2
    names = {record["fields"]["name"] for record in mounted.run("dump", "names", "--json").records}
    assert "root/main" in names
    assert len(mounted.run("dump", "segments").out.splitlines()) > 40
    mounted.run("dump", "segment", 4000, status=3)
    mounted.run("dump", "bogus", status=2)
    assert (mounted.mountpoint / "x").read_text() == "hello"
    mounted.run("umount", mounted.mountpoint)
    assert mounted.run("check", "--json").record["findings"] == []


def scrubbed_to(world):
    copies = world.run("dump", "superblock", "--json").records
    return max(copy["fields"]["scrubbed_to"] for copy in copies)


@pytest.mark.needs_fuse
@pytest.mark.slow
@pytest.mark.parametrize("daemon", [True, False])
def test_interrupted_scrub_goes_on_where_it_was(mounted, daemon):
    if not daemon:
        mounted.run("umount", mounted.mountpoint)
    assert mounted.interrupted("scrub", "--rate", "6M", delay_s=2) == 1
    # The daemon hears of it at its next report, which may come after this command's end.
    wait_until(lambda: scrubbed_to(mounted) > 0)
    record = mounted.run("scrub", "--json").record
    assert record["findings"] == []
    assert record["resumed"]
    assert 0 < record["bytes_read"] < 24 << 20
