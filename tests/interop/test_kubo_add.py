"""Kubo itself: `ipfs add` prints what our importer says, and reads back what we export."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ipfs_mfs.addoptions import AddOptions
from ipfs_mfs.importer import Importer
from ipld import cid as cids
from ipld import dagpb, unixfs, walk
from ipld.block import Block
from ipld.car import write_car
from ipld.unixfs import Kind
from tests.interop import judges
from tests.interop.trees import make_tree

pytestmark = [pytest.mark.needs_peers, pytest.mark.slow]

V0, V1 = "unixfs-v0-2015", "unixfs-v1-2025"

# Kubo's flags, and ours for the same thing.
FLAGS: list[tuple[str, dict[str, object]]] = [
    ("", {}),
    ("--cid-version=1", {"cid_version": 1}),
    ("--raw-leaves", {"raw_leaves": True}),
    ("--cid-version=1 --raw-leaves=false", {"cid_version": 1, "raw_leaves": False}),
    ("--chunker=size-32 --max-file-links=3", {"chunker": "size-32", "max_file_links": 3}),
    (
        "--trickle --chunker=size-32 --max-file-links=3",
        {"trickle": True, "chunker": "size-32", "max_file_links": 3},
    ),
    (
        "--trickle --raw-leaves --chunker=size-100",
        {"trickle": True, "raw_leaves": True, "chunker": "size-100"},
    ),
    ("--inline", {"inline": True}),
    (
        "--inline --inline-limit=100 --cid-version=1 --chunker=size-32",
        {"inline": True, "inline_limit_bytes": 100, "cid_version": 1, "chunker": "size-32"},
    ),
    ("--hash=blake3", {"hash_function": "blake3"}),
    ("--hash=sha2-512", {"hash_function": "sha2-512"}),
    (
        "--hash=blake2b-256 --raw-leaves=false",
        {"hash_function": "blake2b-256", "raw_leaves": False},
    ),
    ("--hash=blake2s-256", {"hash_function": "blake2s-256"}),
    ("--hash=keccak-256", {"hash_function": "keccak-256"}),
    ("--hash=keccak-512", {"hash_function": "keccak-512"}),
    ("--hash=dbl-sha2-256", {"hash_function": "dbl-sha2-256"}),
    ("--hash=sha1", {"hash_function": "sha1"}),
    ("--hash=sha3", {"hash_function": "sha3"}),
    ("--hash=shake-256", {"hash_function": "shake-256"}),
    ("--preserve-mode", {"preserve_mode": True}),
    ("--preserve-mtime", {"preserve_mtime": True}),
    (
        "--preserve-mode --preserve-mtime --cid-version=1 --chunker=size-256",
        {"preserve_mode": True, "preserve_mtime": True, "cid_version": 1, "chunker": "size-256"},
    ),
    (
        "--preserve-mode --preserve-mtime --trickle --chunker=size-256",
        {"preserve_mode": True, "preserve_mtime": True, "trickle": True, "chunker": "size-256"},
    ),
    ("--mode=0640", {"mode": 0o640}),
    ("--mode=04755", {"mode": 0o4755}),
    ("--mtime=-7 --mtime-nsecs=5", {"mtime_s": -7, "mtime_ns": 5}),
    (
        "--mtime=1600000000 --preserve-mode --mode=0600",
        {"mtime_s": 1_600_000_000, "preserve_mode": True, "mode": 0o600},
    ),
    ("-H", {"hidden": True}),
    ("--empty-dirs=false", {"empty_dirs": False}),
    ("-w -H", {"wrap": True, "hidden": True}),
    ("-w --preserve-mode --mtime=5", {"wrap": True, "preserve_mode": True, "mtime_s": 5}),
    ("-w --mode=0700", {"wrap": True, "mode": 0o700}),
]

# Directories over a limit are HAMTs, whose entries Kubo prints in the order of their hashes.
SHARDING_FLAGS: list[tuple[str, dict[str, object]]] = [
    ("--max-directory-links=4", {"max_directory_links": 4}),
    (
        "--max-directory-links=4 --max-hamt-fanout=8 --cid-version=1",
        {"max_directory_links": 4, "max_hamt_fanout": 8, "cid_version": 1},
    ),
    (
        "--max-directory-links=4 --max-hamt-fanout=16 --preserve-mode --preserve-mtime",
        {
            "max_directory_links": 4,
            "max_hamt_fanout": 16,
            "preserve_mode": True,
            "preserve_mtime": True,
        },
    ),
]


class Kubo:
    """One repository of the real thing, offline.

    Of the implicit parameters it is told nothing: a profile that is written into its configuration
    counts as the user's own words there, and --cid-version=1 would no longer mean raw leaves.
    """

    def __init__(self, repo: Path, profile: str) -> None:
        self._environment = os.environ | {"IPFS_PATH": str(repo), "GOLOG_LOG_LEVEL": "error"}
        self.run("init", "--empty-repo", *([] if profile == V0 else [f"--profile={profile}"]))

    def run(self, *arguments: str, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
        answer = subprocess.run(
            [judges.kubo(), *arguments],
            cwd=cwd,
            env=self._environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert answer.returncode == 0, answer.stderr.decode(errors="replace")
        return answer.stdout

    def add(self, *arguments: str, cwd: Path, stdin: bytes = b"") -> list[str]:
        """Not with `-n`: there Kubo forgets the limits of directories for the topmost one."""
        output = self.run(
            "add", "--pin=false", "--progress=false", *arguments, cwd=cwd, stdin=stdin
        )
        return output.decode().splitlines()


@pytest.fixture(scope="module")
def kubos(tmp_path_factory) -> dict[str, Kubo]:
    return {name: Kubo(tmp_path_factory.mktemp("repo"), name) for name in (V0, V1)}


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("trees")
    for seed in range(4):
        make_tree(top / f"tree{seed}", seed)
    return top


def our_add(
    names: list[str], folder: Path, blocks: list[Block] | None = None, **flags
) -> list[str]:
    sink: list[Block] = [] if blocks is None else blocks
    options = replace(AddOptions(profile=V0, recursive=True), **flags)
    events = Importer(options, sink.extend).add([str(folder / name) for name in names])
    return [
        f"added {cids.to_text(event.cid)} {event.name.decode()}" for event in events if event.cid
    ]


@pytest.mark.parametrize(("kubo_flags", "flags"), FLAGS, ids=lambda value: str(value))
def test_the_same_flags_give_the_same_output(kubos, trees, kubo_flags, flags):
    for name in ("tree0", "tree1"):
        expected = kubos[V0].add("-r", *kubo_flags.split(), name, cwd=trees)
        assert our_add([name], trees, **flags) == expected


@pytest.mark.parametrize(("kubo_flags", "flags"), SHARDING_FLAGS, ids=lambda value: str(value))
def test_sharded_directories_have_the_same_cids(kubos, trees, kubo_flags, flags):
    for name in ("tree0", "tree1", "tree2"):
        expected = kubos[V0].add("-r", *kubo_flags.split(), name, cwd=trees)
        assert sorted(our_add([name], trees, **flags)) == sorted(expected)
        assert our_add([name], trees, **flags)[-1] == expected[-1]


@pytest.mark.parametrize(
    ("kubo_flags", "flags"),
    [
        ("", {}),
        ("--hidden", {"hidden": True}),
        # With this profile, Kubo wants to be told that metadata excludes raw leaves.
        ("--preserve-mtime --raw-leaves=false", {"preserve_mtime": True}),
    ],
    ids=lambda value: str(value),
)
def test_our_default_profile_is_the_one_of_that_name(kubos, trees, kubo_flags, flags):
    for name in ("tree2", "tree3"):
        expected = kubos[V1].add("-r", *kubo_flags.split(), name, cwd=trees)
        assert our_add([name], trees, profile=None, **flags) == expected


def test_several_arguments_are_added_in_the_same_order(kubos, trees):
    names = ["tree3", "tree1", "tree2"]
    assert our_add(names, trees) == kubos[V0].add("-r", *names, cwd=trees)
    assert our_add(names, trees, wrap=True) == kubos[V0].add("-r", "-w", *names, cwd=trees)


def test_links_that_are_followed_give_the_same_output(kubos, tmp_path):
    make_tree(tmp_path / "tree", 5, links=0)
    (tmp_path / "tree/to-file").symlink_to("../outside")
    (tmp_path / "tree/to-folder").symlink_to("../folder", target_is_directory=True)
    (tmp_path / "outside").write_bytes(b"outside")
    make_tree(tmp_path / "folder", 6, links=0)
    expected = kubos[V0].add("-r", "--dereference-symlinks", "tree", cwd=tmp_path)
    assert our_add(["tree"], tmp_path, dereference_symlinks=True) == expected


@pytest.mark.parametrize("wrap", [False, True])
def test_standard_input_is_named_by_its_cid(kubos, tmp_path, wrap):
    content = b"from a pipe\n" * 30_000
    (tmp_path / "input").write_bytes(content)
    arguments = ["-w"] if wrap else []
    expected = kubos[V0].add(*arguments, cwd=tmp_path, stdin=content)
    options = AddOptions(profile=V0, wrap=wrap)
    with (tmp_path / "input").open("rb") as stdin:
        events = list(Importer(options, len).add(["-"], stdin))
    lines = [f"added {cids.to_text(e.cid)} {e.name.decode()}" for e in events if e.cid]
    assert lines == expected


@pytest.mark.parametrize("profile", [V0, V1])
def test_files_at_the_borders_of_chunks_and_nodes(kubos, tmp_path, profile):
    """Sizes around one chunk, and one leaf more than a node holds."""
    chunk, links = (256 << 10, 174) if profile == V0 else (1 << 20, 1024)
    for size in (chunk - 1, chunk, chunk + 1, 2 * chunk):
        (tmp_path / f"{size}").write_bytes(os.urandom(size))
    with (tmp_path / "two-levels").open("wb") as target:
        target.truncate(chunk * links + 1)
    names = sorted(path.name for path in tmp_path.iterdir())
    expected = kubos[profile].add(*names, cwd=tmp_path)
    assert our_add(names, tmp_path, profile=profile) == expected


@pytest.mark.parametrize(("profile", "last_plain"), [(V0, 3120), (V1, 2788)])
def test_a_directory_becomes_a_hamt_at_the_same_entry(kubos, tmp_path, profile, last_plain):
    """Names of 50 bytes: 84 bytes each by the one estimate, 94 by the other."""
    for count, kind in ((last_plain, Kind.DIRECTORY), (last_plain + 1, Kind.HAMT_SHARD)):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:050d}").write_bytes(b"x")
        expected = kubos[profile].add("-r", "-Q", folder.name, cwd=tmp_path)
        blocks: list[Block] = []
        cid = our_add([folder.name], tmp_path, blocks, profile=profile)[-1].split()[1]
        assert cid == expected[0]
        root = next(block for block in blocks if cids.to_text(block.cid) == cid)
        assert unixfs.decode(dagpb.decode(root.data).data).kind is kind


@pytest.mark.parametrize("profile", [V0, V1])
def test_kubo_imports_our_car_and_reads_our_file(kubos, trees, tmp_path, profile):
    """Kubo verifies every block of the CAR, and then gives a large file's very bytes."""
    content = os.urandom(5 << 20)
    (tmp_path / "large").write_bytes(content)
    blocks: list[Block] = []
    kept = {}
    for name, folder in (("large", tmp_path), ("tree0", trees)):
        line = our_add([name], folder, blocks, profile=profile)[-1]
        kept[name] = cids.parse(line.split()[1])
    stored = {block.cid: block.data for block in blocks}
    car = tmp_path / "ours.car"
    with car.open("wb") as target:
        found = walk.walk(list(kept.values()), stored.__getitem__)
        write_car(list(kept.values()), (Block.verify(*pair) for pair in found), target.write)
    imported = kubos[profile].run("dag", "import", "--pin-roots=true", str(car)).decode()
    assert all(cids.to_text(cid) in imported for cid in kept.values())
    assert kubos[profile].run("cat", cids.to_text(kept["large"])) == content
