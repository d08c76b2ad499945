"""`get` writes what the DAG says and never anything outside its target."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_mfs.api import TreeItem
from ipfs_mfs.errors import OutputExists, UnsafeName
from ipfs_mfs.extract import extract


def directory(path, mode=None, mtime_ns=None):
    return TreeItem(path, "directory", 0, mode, mtime_ns, b"", None)


def file(path, data=b"", mode=None, mtime_ns=None):
    head = TreeItem(path, "file", len(data), mode, mtime_ns, b"", None)
    pieces = [TreeItem(path, "file", len(data), None, None, b"", data)] if data else []
    return [head, *pieces]


def symlink(path, target):
    return TreeItem(path, "symlink", 0, None, None, target, None)


def ignore(_):
    pass


def everything_below(path):
    return sorted(str(each) for each in path.rglob("*"))


def test_a_tree_is_written_with_modes_and_times(tmp_path):
    target = tmp_path / "out"
    advanced = []
    items = [
        directory(b"", mode=0o755),
        directory(b"closed", mode=0o555, mtime_ns=5 * 10**9),
        *file(b"closed/x", b"hello", mode=0o640, mtime_ns=-1),
        symlink(b"link", b"closed/x"),
        *file(b"empty"),
    ]
    assert extract(iter(items), target, advanced.append) == 5
    assert (target / "closed/x").read_bytes() == b"hello"
    assert (target / "closed/x").stat().st_mode & 0o777 == 0o640
    assert (target / "closed/x").stat().st_mtime_ns == -1
    assert (target / "closed").stat().st_mtime_ns == 5 * 10**9
    assert (target / "closed").stat().st_mode & 0o777 == 0o555
    assert (target / "link").readlink().as_posix() == "closed/x"
    assert (target / "empty").read_bytes() == b""
    assert advanced == [5]
    assert everything_below(tmp_path)[0] == str(target), "no temporary directory stays"


def test_a_single_file_is_the_target_itself(tmp_path):
    extract(iter(file(b"", b"content")), tmp_path / "f", ignore)
    assert (tmp_path / "f").read_bytes() == b"content"


def test_dangerous_mode_bits_are_not_taken_over(tmp_path):
    extract(iter(file(b"", b"", mode=0o6755)), tmp_path / "f", ignore)
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "path", [b"../x", b"a/../../x", b"/etc/x", b"a//b", b"x\0y", b".", b"n" * 256]
)
def test_a_name_that_would_leave_the_target_writes_nothing(tmp_path, path):
    target = tmp_path / "here/out"
    target.parent.mkdir()
    with pytest.raises(UnsafeName):
        extract(iter([directory(b""), directory(b"a"), *file(path, b"evil")]), target, ignore)
    assert everything_below(tmp_path) == [str(tmp_path / "here")]


def test_a_file_below_a_symlink_of_the_same_name_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    items = [
        directory(b""),
        symlink(b"door", os.fsencode(outside)),
        directory(b"door"),
        *file(b"door/evil", b"x"),
    ]
    with pytest.raises(FileExistsError):
        extract(iter(items), tmp_path / "out", ignore)
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(FileExistsError):
        extract(
            iter([directory(b""), *file(b"x", b"1"), *file(b"x", b"2")]), tmp_path / "o", ignore
        )


def test_an_existing_target_is_left_alone(tmp_path):
    target = tmp_path / "out"
    target.write_text("mine")
    with pytest.raises(OutputExists):
        extract(iter(file(b"", b"theirs")), target, ignore)
    assert target.read_text() == "mine"
    dangling = tmp_path / "dangling"
    dangling.symlink_to("nowhere")
    with pytest.raises(OutputExists):
        extract(iter(file(b"", b"theirs")), dangling, ignore)


def test_an_interrupt_leaves_nothing(tmp_path):
    def items():
        yield directory(b"")
        yield from file(b"x", b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(items(), tmp_path / "out", ignore)
    assert list(tmp_path.iterdir()) == []


@given(path=st.binary(max_size=40))
def test_any_path_stays_below_the_target_or_is_refused(tmp_path_factory, path):
    base = tmp_path_factory.mktemp("any")
    items = [directory(b"")]
    parts = path.split(b"/")
    items += [directory(b"/".join(parts[:depth])) for depth in range(1, len(parts))]
    try:
        extract(iter([*items, *file(path, b"x")]), base / "out", ignore)
    except (UnsafeName, OSError):
        assert list(base.iterdir()) == []
        return
    assert [each.name for each in base.iterdir()] == ["out"]
