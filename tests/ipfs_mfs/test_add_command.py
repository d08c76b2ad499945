"""`add` on the command line: flags, output lines, what is durable when. CIDs are judged elsewhere
(tests of the importer, Kubo's own vectors); here only that each flag reaches the importer."""

import json

import pytest

from ipfs_mfs import main as program

KUBO_DEFAULT = ["--profile", "unixfs-v0-2015"]


@pytest.fixture
def tree(tmp_path):
    base = tmp_path / "tree"
    (base / "sub/empty").mkdir(parents=True)
    (base / "sub/b").write_bytes(bytes(range(256)) * 5000)
    (base / "a").write_text("hello\n")
    (base / ".hidden").write_text("secret")
    (base / "link").symlink_to("a")
    return base


@pytest.fixture
def add(capfdbinary):
    """Runs `add -n` and gives its lines; fails on any message."""

    def run(*arguments, status=0):
        assert program.run(["add", "-n", *map(str, arguments)]) == status
        captured = capfdbinary.readouterr()
        if status == 0:
            assert captured.err == b""
            return captured.out.decode().splitlines()
        assert captured.out == b""
        return captured.err.decode().splitlines()

    return run


def test_lines_are_added_cid_name_with_the_argument_last(add, tree):
    lines = [line.split(" ") for line in add("-r", tree)]
    assert {word for word, _, _ in lines} == {"added"}
    names = [name for _, _, name in lines]
    assert names[-1] == "tree"
    assert names.index("tree/sub/b") < names.index("tree/sub")
    assert set(names) == {"tree", "tree/a", "tree/link", "tree/sub", "tree/sub/b", "tree/sub/empty"}


def test_quiet_prints_cids_and_quieter_the_last_one(add, tree):
    lines = add("-r", tree)
    assert add("-q", "-r", tree) == [line.split()[1] for line in lines]
    assert add("-Q", "-r", tree) == [lines[-1].split()[1]]


def test_json_prints_an_object_a_line(add, tree):
    records = [json.loads(line) for line in add("--json", "-r", tree)]
    assert [record["name"] for record in records if record["root"]] == ["tree"]
    assert {record["size_bytes"] for record in records if record["name"] == "tree/a"} == {6}


def test_standard_input_is_a_file(add, monkeypatch, tmp_path):
    content = tmp_path / "x"
    content.write_bytes(b"hello\n")
    with content.open("rb") as source:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": source}))
        assert add("-Q", "-") == add("-Q", content)


@pytest.mark.parametrize(
    "flags",
    [
        ["--profile", "unixfs-v0-2015"],
        ["--cid-version", "1"],
        ["--cid-version=0"],
        ["--raw-leaves"],
        ["--raw-leaves=false"],
        ["--chunker", "size-1000"],
        ["-s", "size-1000"],
        ["--hash", "sha2-512"],
        ["--hash=blake3"],
        ["--trickle"],
        ["-t"],
        ["--max-file-links", "2"],
        ["--max-directory-links", "1"],
        ["--max-hamt-fanout", "16", "--hamt-threshold", "1"],
        ["--inline", "--inline-limit", "100"],
        ["--preserve-mode"],
        ["--preserve-mtime"],
        ["--mode", "0600"],
        ["--mtime", "1000"],
        ["--mtime", "1000", "--mtime-nsecs", "5"],
        ["--wrap-with-directory"],
        ["-w"],
        ["--hidden"],
        ["-H"],
        ["--dereference-symlinks"],
        ["--empty-dirs=false"],
    ],
    ids=" ".join,
)
def test_every_flag_changes_the_root(add, tree, flags):
    assert add("-Q", "-r", *flags, tree) != add("-Q", "-r", tree)


@pytest.mark.parametrize(
    "flags",
    [
        ["--empty-dirs"],
        ["--empty-dirs=true"],
        ["--pin=false"],
        ["--hamt-size-estimation", "block"],
        ["--profile", "unixfs-v1-2025"],
    ],
    ids=" ".join,
)
def test_a_flag_that_says_the_default_changes_nothing(add, tree, flags):
    assert add("-Q", "-r", *flags, tree) == add("-Q", "-r", tree)


def test_a_switch_never_swallows_the_argument_behind_it(add, tree):
    assert add("-Q", "--raw-leaves", tree / "a") == add("-Q", "--raw-leaves=true", tree / "a")
    assert add("-Q", "-t", tree / "a") == add("-Q", "--trickle", tree / "a")
    (tree / "--inline").write_text("a file with a name like a flag")
    assert add("-r", "--", tree)[0].startswith("added ")


def test_kubo_s_cids_for_well_known_content(add, tree):
    assert add("-Q", *KUBO_DEFAULT, tree / "a") == [
        "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN"
    ]
    assert add("-Q", "--cid-version=1", tree / "a") == [
        "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"
    ]


def test_the_configured_profile_is_used_without_flags(add, tree, monkeypatch):
    with_flag = add("-Q", "-r", *KUBO_DEFAULT, tree)
    monkeypatch.setenv("IPFS_MFS_PROFILE", "unixfs-v0-2015")
    assert add("-Q", "-r", tree) == with_flag


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{tree}"], 2, "is a directory (add it with -r)"),
        (["{tree}/nothing"], 3, "{tree}/nothing: No such file"),
        (["-r", "{tree}", "--mode", "9"], 2, "is not an octal number"),
        (["{tree}/a", "--hash", "md5"], 2, "md5"),
        (["{tree}/a", "--chunker", "rabin"], 2, "rabin"),
        (["{tree}/a", "--chunker", "size-0"], 2, "size"),
        (["{tree}/a", "--profile", "nonsense"], 2, "nonsense"),
        (["{tree}/a", "--raw-leaves=maybe"], 2, "raw-leaves"),
        (["{tree}/a", "--raw-leaves", "--mode", "0600"], 2, "raw leaves"),
        (["/dev/null"], 3, "/dev/null"),
    ],
)
def test_a_wrong_request_is_one_line(add, tree, arguments, status, message):
    lines = add(*(argument.format(tree=tree) for argument in arguments), status=status)
    assert len(lines) == 1
    assert lines[0].startswith("ipfs-mfs: add: ")
    assert message.format(tree=tree) in lines[0]
