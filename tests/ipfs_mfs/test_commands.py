"""Every command as its users call it: what it prints, its JSON, and what it leaves behind."""

import json
import os
import random
import tarfile

import pytest

from ipfs_mfs import main as program
from ipfs_mfs.config import Config
from ipfs_mfs.formatting import format_store

DATA = random.Random(5).randbytes(2_500_000)


@pytest.fixture
def run(tmp_path, monkeypatch, capfdbinary):
    """A store, and a way to run command lines in this process; each must succeed in silence."""
    path = tmp_path / "store.blk"
    monkeypatch.setenv("IPFS_MFS_STORE", str(path))
    monkeypatch.setenv("IPFS_MFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    config = Config(store=path, runtime_dir=tmp_path / "run")
    format_store(config, size_bytes=128 << 20, force=False)

    def call(*arguments, notes=False):
        capfdbinary.readouterr()
        status = program.run([str(argument) for argument in arguments])
        captured = capfdbinary.readouterr()
        assert status == 0, captured.err
        assert notes or captured.err == b""
        return captured.out

    return call


@pytest.fixture
def tree(tmp_path):
    base = tmp_path / "tree"
    (base / "sub/empty").mkdir(parents=True)
    (base / "sub/data").write_bytes(DATA)
    (base / "hello").write_text("hello\n")
    (base / "link").symlink_to("sub/data")
    (base / "caf\udce9").mkdir()
    return base


@pytest.fixture
def cid(run, tree):
    return run("add", "-Q", "-r", tree).decode().strip()


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def snapshot_of(directory):
    """Names, kinds and content below a directory."""
    found: dict[bytes, tuple] = {}
    for path in sorted(directory.rglob("*")):
        name = os.fsencode(path.relative_to(directory))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))  # noqa: PTH115  # the text, not a path
        else:
            found[name] = ("dir",) if path.is_dir() else ("file", path.read_bytes())
    return found


# ------------------------------------------------------------------------ content in and out


def test_get_gives_back_what_was_added(run, tree, cid, tmp_path):
    run("get", cid, "-o", "copy")
    assert snapshot_of(tmp_path / "copy") == snapshot_of(tree)
    run("get", f"{cid}/hello")
    assert (tmp_path / "hello").read_text() == "hello\n"
    record = records(run("get", "--json", f"/ipfs/{cid}/sub", "-o", "sub2"))
    assert record == [
        {
            "cid": records(run("stat", "--json", f"{cid}/sub"))[0]["cid"],
            "path": str(tmp_path / "sub2"),
            "bytes": len(DATA),
        }
    ]


def test_get_restores_modes_and_times_that_were_preserved(run, tmp_path):
    source = tmp_path / "x"
    source.write_text("x")
    source.chmod(0o640)
    os.utime(source, ns=(0, 1_234_567_890_123_456_789))
    cid = run("add", "-Q", "--preserve-mode", "--preserve-mtime", source).decode().strip()
    run("get", cid, "-o", "y")
    status = (tmp_path / "y").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_234_567_890_123_456_789)


def test_cat_writes_bytes_and_ranges(run, cid):
    assert run("cat", f"{cid}/sub/data") == DATA
    assert (
        run("cat", "--offset", 1 << 20, "--length", 10, f"{cid}/sub/data")
        == (DATA[1 << 20 : (1 << 20) + 10])
    )
    assert run("cat", "--offset", len(DATA), f"{cid}/sub/data") == b""


def test_ls_prints_names_as_bytes(run, cid):
    assert sorted(run("ls", cid).splitlines()) == [b"caf\xe9", b"hello", b"link", b"sub"]
    lines = run("ls", "-l", cid).decode("utf-8", "surrogateescape").splitlines()
    assert {line.split()[0] for line in lines} == {"directory", "file", "symlink"}
    found = {record["name"]: record["kind"] for record in records(run("ls", "--json", cid))}
    assert found == {
        "caf\udce9": "directory",
        "hello": "file",
        "link": "symlink",
        "sub": "directory",
    }


def test_names_cannot_drive_a_terminal(monkeypatch):
    from ipfs_mfs import app

    class Terminal:
        def isatty(self):
            return True

    assert app.name_text(b"a\x1b[2Jb") == "a\x1b[2Jb"
    monkeypatch.setattr(app.sys, "stdout", Terminal())
    assert app.name_text(b"a\x1b[2J\xffb") == "a?[2J?b"


def test_stat_says_what_an_address_names(run, cid):
    (record,) = records(run("stat", "--json", f"{cid}/sub/data"))
    assert (record["kind"], record["size_bytes"]) == ("file", len(DATA))
    text = run("stat", cid).decode()
    assert f"cid       {cid}" in text
    assert "directory" in text


def test_export_and_import_carry_a_dag_to_another_store(run, cid, tmp_path, monkeypatch):
    out = records(run("export", cid, "-o", "x.car", "--json"))
    assert out[0]["bytes"] == (tmp_path / "x.car").stat().st_size
    car = run("export", cid)
    assert car == (tmp_path / "x.car").read_bytes()
    other = tmp_path / "other.blk"
    run("format", other, "--size", "128M")
    monkeypatch.setenv("IPFS_MFS_STORE", str(other))
    (record,) = records(run("import", "x.car", "--root", "copy", "--json", notes=True))
    assert record["roots"] == [cid]
    assert record["blocks_new"] > 0
    assert records(run("root", "stat", "copy", "--json"))[0]["cid"] == cid
    assert run("cat", "copy/hello") == b"hello\n"
    assert run("pin", "ls") == b""


def test_a_delta_is_small_and_needs_its_base(run, cid, tree, tmp_path):
    (tree / "new").write_text("new\n")
    newer = run("add", "-Q", "-r", tree).decode().strip()
    run("export", newer, "--since", cid, "-o", "delta.car")
    assert (tmp_path / "delta.car").stat().st_size < 2000
    run("import", "delta.car", notes=True)
    other = tmp_path / "other.blk"
    run("format", other, "--size", "64M")
    assert program.run(["import", "delta.car", "--store", str(other)]) == 3


def test_standard_input_and_output_work_in_a_pipe(run, cid, tmp_path, monkeypatch):
    car = tmp_path / "x.car"
    car.write_bytes(run("export", cid))
    with car.open("rb") as source:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": source}))
        (record,) = records(run("import", "--json", "-"))
    assert record["roots"] == [cid]


def test_a_tar_of_what_came_out_is_the_tar_of_what_went_in(run, tree, cid, tmp_path):
    run("get", cid, "-o", "copy")
    for name in ("tree", "copy"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(tmp_path / name, "x", filter=_plain)
    assert (tmp_path / "tree.tar").read_bytes() == (tmp_path / "copy.tar").read_bytes()


def _plain(info):
    info.mtime = info.uid = info.gid = 0
    info.mode = 0
    return info


# ------------------------------------------------------------------------------ roots, pins


def test_the_life_of_a_root(run, cid):
    run("root", "create", "a", "--cid", cid, "--quota", "1G")
    (made,) = records(run("root", "stat", "a", "--json"))
    assert (made["cid"], made["quota_bytes"], made["profile"]) == (cid, 1 << 30, "unixfs-v1-2025")
    assert run("root", "snapshot", "a", "s") == f"a@s {cid}\n".encode()
    assert records(run("root", "snapshots", "a", "--json"))[0]["name"] == "s"
    run("root", "clone", "a@s", "b")
    run("root", "rename", "b", "c")
    assert [line.split()[0] for line in run("root", "list").splitlines()] == [b"a", b"c", b"main"]
    assert run("root", "diff", "a", "c") == b""
    assert b"removed hello" in run("root", "diff", "a", "main")
    assert run("root", "restore", "a@s").decode().split() == ["a", cid]
    assert len(records(run("root", "log", "a", "--json"))) >= 1
    run("root", "drop", "a@s")
    run("root", "drop", "a")
    assert [record["name"] for record in records(run("root", "list", "--json"))] == ["c", "main"]
    assert run("sync", "c").decode().split() == ["c", cid]
    text = run("root", "stat", "c").decode()
    assert "quota      none" in text
    assert "in the DAG yes" in text


def test_a_root_with_another_profile_gives_other_cids(run):
    run("root", "create", "old", "--profile", "unixfs-v0-2015")
    empty = run("root", "list").decode().splitlines()[-1].split()
    assert empty[:2] == ["old", "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"]


def test_pins_are_listed_added_and_removed(run, cid):
    assert run("pin", "ls") == f"{cid} recursive\n".encode()
    run("pin", "rm", cid)
    run("pin", "add", "--direct", "--name", "top only", cid)
    assert run("pin", "ls") == f"{cid} direct top only\n".encode()
    run("pin", "add", f"{cid}/sub")
    assert len(records(run("pin", "ls", "--json"))) == 2


def test_add_without_a_pin_leaves_only_garbage(run, tree):
    cid = run("add", "-Q", "-r", "--pin=false", tree).decode().strip()
    assert run("pin", "ls") == b""
    run("cat", f"{cid}/hello")
    (record,) = records(run("gc", "--json"))
    assert record["blocks_removed"] > 5
    assert program.run(["cat", f"{cid}/hello"]) == 3


# ------------------------------------------------------------------------------ maintenance


def test_gc_frees_what_nothing_needs_and_the_dry_run_says_so(run, cid):
    run("pin", "rm", cid)
    dry = run("gc", "--dry-run").decode()
    assert dry.startswith("would remove ")
    assert run("gc").decode() == dry.replace("would remove", "removed")
    assert run("gc").decode().startswith("removed 0 blocks")


def test_check_compact_stats_and_doctor_are_content_with_a_good_store(run, cid, monkeypatch):
    assert run("check").decode().startswith("clean: ")
    (checked,) = records(run("check", "--json"))
    (stats,) = records(run("stats", "--json"))
    assert checked["findings"] == []
    assert checked["blocks"] == stats["blocks"]
    assert stats["pins"] == 1
    run("compact")
    records(run("compact", "--json"))
    for item in records(run("doctor", "--json")):
        assert item["status"] in ("ok", "warn"), item
    assert b"ok" not in run("doctor", "-q").split()


def test_resize_changes_the_store_and_its_file_and_says_what_there_is(run, cid, tmp_path):
    path = tmp_path / "store.blk"
    grown = run("resize", "192M").decode()
    assert grown.startswith(f"{path}: store of 192.0 MiB, ")
    assert path.stat().st_size == 192 << 20
    (shrunk,) = records(run("resize", "64M", "--json"))
    assert (shrunk["size_bytes"], shrunk["file_fits"]) == (64 << 20, True)
    assert path.stat().st_size == 64 << 20
    assert run("cat", f"{cid}/sub/data") == DATA
    os.truncate(path, 96 << 20)
    (whole,) = records(run("resize", "--json"))
    assert (whole["size_bytes"], whole["segments_before"]) == (96 << 20, shrunk["segments"])
    assert run("check").decode().startswith("clean: ")


@pytest.mark.parametrize(
    ("size", "status", "why"),
    [
        ("12Q", 2, "is not a size such as"),
        ("-5", 2, ""),
        ("99999999P", 2, "nothing is as large"),
        ("4M", 1, "choose a larger size"),
        ("7P", 6, "cannot be made larger"),
    ],
)
def test_resize_that_cannot_be_done_says_why_in_one_line(
    run, cid, tmp_path, capfdbinary, size, status, why
):
    capfdbinary.readouterr()
    assert program.run(["resize", size]) == status
    captured = capfdbinary.readouterr()
    assert why in captured.err.decode()
    assert status == 2 or captured.err.count(b"\n") == 1
    assert (tmp_path / "store.blk").stat().st_size == 128 << 20
    assert run("cat", f"{cid}/sub/data") == DATA


def test_resize_of_a_store_that_is_not_there_is_not_found(run, tmp_path):
    assert program.run(["resize", "64M", "--store", str(tmp_path / "none")]) == 3


def test_completion_scripts_name_the_program(run):
    for shell in ("bash", "zsh", "fish"):
        assert b"_IPFS_MFS_COMPLETE" in run("completion", shell)


def test_manual_pages_are_written(run, tmp_path):
    run("man", tmp_path / "man1")
    text = (tmp_path / "man1/ipfs-mfs-root-clone.1").read_text()
    assert "ipfs\\-mfs root clone main work" in text


def test_quiet_says_nothing_but_what_was_asked_for(run, cid):
    assert run("import", "-q", _car(run, cid)).count(b"\n") == 1
    assert run("cat", "-q", f"{cid}/hello") == b"hello\n"


def _car(run, cid):
    run("export", cid, "-o", "q.car")
    return "q.car"


def test_doctor_finds_what_is_wrong_and_says_what_to_do(run, monkeypatch, capfdbinary):
    from ipfs_mfs import diagnosis

    monkeypatch.setattr(diagnosis.shutil, "which", lambda _: None)
    monkeypatch.setattr(diagnosis.time, "time", lambda: 1000.0)
    monkeypatch.setenv("IPFS_MFS_LOG_DIR", "/proc/nowhere")
    monkeypatch.setattr(diagnosis.os, "access", lambda *_: False)
    assert program.run(["doctor", "--json"]) == 1
    captured = capfdbinary.readouterr()
    found = {item["check"]: item for item in map(json.loads, captured.out.splitlines())}
    assert found["fuse device"]["status"] == "fail"
    assert found["fusermount3"]["fix"] == "install the package fuse3"
    assert found["clock"]["status"] == "warn"
    assert found["log directory"]["status"] == "fail"
    assert captured.err.startswith(b"ipfs-mfs: doctor: 2 checks failed")


def test_doctor_survives_a_check_that_fails_itself(run, monkeypatch, capfdbinary):
    from ipfs_mfs import diagnosis

    def explode(_):
        raise OSError(5, "Input/output error", "/dev/fuse")

    monkeypatch.setitem(diagnosis._CHECKS, "system", explode)
    assert program.run(["doctor"]) == 1
    assert b"fail  system: /dev/fuse: Input/output error" in capfdbinary.readouterr().out


def test_doctor_without_a_store_says_how_to_make_one(run, tmp_path):
    out = run("doctor", "--store", tmp_path / "none.blk").decode()
    assert "warn  store:" in out
    assert "ipfs-mfs mount DIR" in out
