"""The importer: trees on disk become the DAGs of their content, in Kubo's order, within bounds."""

import io
import os
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ipfs_mfs.addoptions import AddOptions
from ipfs_mfs.errors import BadOption, WrongKind
from ipfs_mfs.importer import Event, Importer, content_size_bytes
from ipld import cid as cids
from ipld import dagpb, dirdag, filedag, walk
from ipld.block import Block
from ipld.filedag import FileReader
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from tests.interop.trees import make_tree

RECURSIVE = AddOptions(recursive=True)


class Sink:
    """Takes batches as a store does, and remembers how they came."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.batches: list[int] = []

    def put_many(self, blocks: list[Block]) -> None:
        self.batches.append(sum(len(block.data) for block in blocks))
        for block in blocks:
            assert Block.verify(block.cid, block.data)
            self.blocks[block.cid] = bytes(block.data)


def run(
    paths, options: AddOptions = RECURSIVE, sink: Sink | None = None, stdin=None
) -> list[Event]:
    importer = Importer(options, (sink or Sink()).put_many)
    return list(importer.add([str(path) for path in paths], stdin))


def discard(_blocks: object) -> None:
    """A sink that keeps nothing."""


def root_of(events: list[Event]) -> bytes:
    assert events[-1].is_root
    assert events[-1].cid is not None
    return events[-1].cid


def added(events: list[Event]) -> list[str]:
    return [event.name.decode() for event in events if event.cid is not None]


def read_back(cid: bytes, sink: Sink) -> dict[str, object] | bytes | str:
    """What a DAG holds: directories as dicts, files as bytes, links as text."""
    get = sink.blocks.__getitem__
    kind = dirdag.node_kind(cid, get)
    if kind == "directory":
        return {e.name.decode(): read_back(e.cid, sink) for e in dirdag.entries(cid, get)}
    if kind == "symlink":
        return dirdag.symlink_target(cid, get).decode()
    reader = FileReader(cid, get)
    return reader.read(0, reader.size)


def on_disk(path: Path, hidden: bool) -> dict[str, object] | bytes | str:
    if path.is_symlink():
        return os.readlink(path)  # noqa: PTH115  # a Path would tidy up the target
    if path.is_dir():
        return {
            child.name: on_disk(child, hidden)
            for child in path.iterdir()
            if hidden or not child.name.startswith(".")
        }
    return path.read_bytes()


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "unixfs-v1-2025"])
def test_a_tree_is_read_back_as_it_was(tmp_path, profile, hidden):
    make_tree(tmp_path / "tree", 7)
    sink = Sink()
    options = replace(RECURSIVE, profile=profile, hidden=hidden)
    events = run([tmp_path / "tree"], options, sink)
    assert read_back(root_of(events), sink) == on_disk(tmp_path / "tree", hidden)
    assert [event.is_root for event in events] == [False] * (len(events) - 1) + [True]
    reachable = dict(walk.walk([root_of(events)], sink.blocks.__getitem__))
    assert reachable.keys() == sink.blocks.keys()


def test_files_come_first_then_their_folders_the_top_last(tmp_path):
    for name in ("b/2", "b/1", "a/x/y", "c"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_bytes(b"")
    names = added(run([tmp_path / "top"]))
    files = ["top/a/x/y", "top/b/1", "top/b/2", "top/c"]
    assert names == [*files, "top/a/x", "top/a", "top/b", "top"]


def test_names_are_ordered_by_their_bytes(tmp_path):
    names = ["Z", "a", "ä", "\udcff", "\uffff"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    events = run([tmp_path])
    expected = sorted(os.fsencode(name) for name in names)
    assert [event.name.split(b"/")[1] for event in events[:-1]] == expected


def test_wrapping_gives_all_arguments_one_nameless_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder/inner").mkdir(parents=True)
    sink = Sink()
    options = replace(RECURSIVE, wrap=True)
    events = run([tmp_path / "folder", tmp_path / "file"], options, sink)
    assert added(events) == ["file", "folder/inner", "folder", ""]
    assert [event.name for event in events if event.is_root] == [b""]
    assert read_back(root_of(events), sink) == {"file": b"1", "folder": {"inner": {}}}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (RECURSIVE, {"empty": {}, "outer": {"inner": {}}, "only hidden": {}}),
        (replace(RECURSIVE, empty_dirs=False), {"outer": {}}),
        (
            replace(RECURSIVE, empty_dirs=False, hidden=True),
            {"outer": {}, "only hidden": {".file": b""}},
        ),
    ],
    ids=["kept", "dropped", "dropped, hidden files kept"],
)
def test_empty_folders(tmp_path, options, expected):
    """A folder whose only folder was dropped stays: Kubo looks at entries, not at results."""
    for name in ("top/empty", "top/outer/inner", "top/only hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "top/only hidden/.file").write_bytes(b"")
    sink = Sink()
    assert read_back(root_of(run([tmp_path / "top"], options, sink)), sink) == expected


def test_an_empty_argument_is_added_even_without_empty_folders(tmp_path):
    sink = Sink()
    events = run([tmp_path], replace(RECURSIVE, empty_dirs=False), sink)
    assert read_back(root_of(events), sink) == {}


class TestSymbolicLinks:
    def test_are_kept_with_their_very_target(self, tmp_path):
        (tmp_path / "link").symlink_to("a//b/./c/")
        sink = Sink()
        assert read_back(root_of(run([tmp_path / "link"], sink=sink)), sink) == "a//b/./c/"

    def test_are_followed_on_demand(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/file").write_bytes(b"x")
        (tmp_path / "top").mkdir()
        (tmp_path / "top/to").symlink_to("../folder")
        (tmp_path / "argument").symlink_to("top")
        sink = Sink()
        options = replace(RECURSIVE, dereference_symlinks=True)
        events = run([tmp_path / "argument"], options, sink)
        assert events[-1].name == b"top"
        assert read_back(root_of(events), sink) == {"to": {"file": b"x"}}

    def test_that_lead_back_are_found_before_the_path_is_too_long(self, tmp_path):
        (tmp_path / "top/below").mkdir(parents=True)
        (tmp_path / "top/below/back").symlink_to("../../top")
        with pytest.raises(WrongKind, match="leads back"):
            run([tmp_path / "top"], replace(RECURSIVE, dereference_symlinks=True))

    def test_that_lead_nowhere_are_reported_by_name(self, tmp_path):
        (tmp_path / "top").mkdir()
        (tmp_path / "top/broken").symlink_to("nothing")
        with pytest.raises(FileNotFoundError) as caught:
            run([tmp_path / "top"], replace(RECURSIVE, dereference_symlinks=True))
        assert os.fsencode(caught.value.filename).endswith(b"broken")


class TestArguments:
    def test_a_folder_needs_the_recursive_flag(self, tmp_path):
        with pytest.raises(BadOption, match="-r"):
            run([tmp_path], AddOptions())

    def test_the_same_path_twice_counts_once(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        assert added(run([tmp_path / "file"] * 2)) == ["file"]

    def test_two_paths_of_one_name_are_refused(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "same").write_bytes(b"")
        with pytest.raises(BadOption, match="same"):
            run([tmp_path / "a/same", tmp_path / "b/same"])

    def test_a_missing_path_is_reported_by_name(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            run([tmp_path / "missing"])
        assert str(caught.value.filename).endswith("missing")

    @pytest.mark.parametrize("place", [".", "..", "../."])
    def test_a_relative_folder_has_its_real_name(self, tmp_path, monkeypatch, place):
        (tmp_path / "top/below").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "top/below" if ".." in place else tmp_path / "top")
        assert added(run([place]))[-1] == "top"

    def test_a_pipe_is_read_as_an_argument_and_refused_in_a_folder(self, tmp_path):
        pipe = tmp_path / "top/pipe"
        pipe.parent.mkdir()
        os.mkfifo(pipe)
        with pytest.raises(WrongKind):
            run([tmp_path / "top"])
        writer = threading.Thread(target=pipe.write_bytes, args=(b"through" * 99_999,))
        writer.start()
        sink = Sink()
        events = run([pipe], sink=sink)
        writer.join()
        assert read_back(root_of(events), sink) == b"through" * 99_999

    def test_a_socket_is_refused(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            with pytest.raises(WrongKind, match="socket"):
                run([tmp_path / "socket"])


@pytest.mark.parametrize("wrap", [False, True])
def test_standard_input_is_named_by_its_cid(tmp_path, wrap):
    (tmp_path / "input").write_bytes(b"typed")
    with (tmp_path / "input").open("rb") as stdin:
        events = run(["-"], AddOptions(wrap=wrap), stdin=stdin)
    expected = cids.to_text(events[0].cid or b"")
    assert added(events) == ([expected, ""] if wrap else [expected])


def test_standard_input_that_comes_in_drops_is_cut_into_the_same_chunks():
    content = os.urandom(300_000)
    reader, writer = os.pipe()

    def drip() -> None:
        with os.fdopen(writer, "wb", buffering=0) as target:
            for start in range(0, len(content), 7001):
                target.write(content[start : start + 7001])

    thread = threading.Thread(target=drip)
    thread.start()
    with os.fdopen(reader, "rb") as stdin:
        events = run(["-"], AddOptions(profile="unixfs-v0-2015"), stdin=stdin)
    thread.join()
    expected = filedag.add_bytes(content, UNIXFS_V0_2015, discard)
    assert events[-1].cid == expected.cid


@pytest.mark.parametrize("profile", [UNIXFS_V0_2015, UNIXFS_V1_2025], ids=lambda p: p.name)
@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("portions", [1, 2, 9])
def test_large_files_are_the_same_through_the_pool(tmp_path, profile, extra, portions):
    content = os.urandom(portions * (1 << 20) + extra)
    (tmp_path / "large").write_bytes(content)
    events = run([tmp_path / "large"], AddOptions(profile=profile.name))
    assert events[-1].cid == filedag.add_bytes(content, profile, discard).cid
    assert events[-1].size_bytes == len(content)


@pytest.mark.parametrize("left", [0, 10])
def test_a_file_that_is_cut_while_it_is_read_ends_where_it_was_cut(tmp_path, monkeypatch, left):
    content = os.urandom(9 << 20)
    (tmp_path / "large").write_bytes(content)

    def read_at(_descriptor: int, size_bytes: int, offset: int) -> bytes:
        end = offset + (left if offset == 2 << 20 else size_bytes)
        return content[offset:end]

    monkeypatch.setattr("ipfs_mfs.importer._read_at", read_at)
    events = run([tmp_path / "large"])
    expected = filedag.add_bytes(content[: (2 << 20) + left], UNIXFS_V1_2025, discard)
    assert events[-1].cid == expected.cid


def test_a_file_that_cannot_be_read_to_its_end_is_not_added(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(bytes(9 << 20))

    def read_at(_descriptor: int, size_bytes: int, offset: int) -> bytes:
        if offset == 4 << 20:
            raise OSError(5, "Input/output error")
        return bytes(size_bytes)

    monkeypatch.setattr("ipfs_mfs.importer._read_at", read_at)
    with pytest.raises(OSError, match="Input/output error"):
        run([tmp_path / "large"])


@pytest.mark.parametrize("mode", [None, 0o640])
@pytest.mark.parametrize("size", [0, 5, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_metadata_on_files_of_every_size(tmp_path, mode, size):
    (tmp_path / "file").write_bytes(bytes(size))
    options = AddOptions(profile="unixfs-v1-2025", mode=mode)
    events = run([tmp_path / "file"], options)
    attributes = options.attributes(None)
    assert events[-1].cid == filedag.add_bytes(bytes(size), UNIXFS_V1_2025, discard, attributes).cid


def test_progress_rises_within_a_file(tmp_path):
    with (tmp_path / "large").open("wb") as target:
        target.truncate(20 << 20)
    events = run([tmp_path / "large"])
    read = [event.size_bytes for event in events if event.cid is None]
    assert read == sorted(set(read))
    assert len(read) >= 4
    assert {event.name for event in events} == {b"large"}


def test_batches_are_bounded(tmp_path):
    with (tmp_path / "large").open("wb") as target:
        target.write(os.urandom(40 << 20))
    sink = Sink()
    run([tmp_path / "large"], sink=sink)
    assert max(sink.batches) <= 10 << 20
    assert len(sink.batches) >= 4


def test_blocks_arrive_before_the_root_is_announced(tmp_path):
    make_tree(tmp_path / "tree", 3)
    sink = Sink()
    for event in Importer(RECURSIVE, sink.put_many).add([str(tmp_path / "tree")]):
        if event.is_root:
            assert event.cid in sink.blocks
            assert (
                dict(walk.walk([event.cid], sink.blocks.__getitem__)).keys() == sink.blocks.keys()
            )


def test_inlined_blocks_are_not_stored(tmp_path):
    (tmp_path / "top").mkdir()
    (tmp_path / "top/small").write_bytes(b"small")
    (tmp_path / "top/large").write_bytes(b"l" * 100)
    sink = Sink()
    events = run([tmp_path / "top"], replace(RECURSIVE, inline=True), sink)
    assert not any(cids.is_identity(cid) for cid in sink.blocks)
    links = dagpb.decode(sink.blocks[root_of(events)]).links
    assert [cids.is_identity(link.cid) for link in links] == [False, True]


def test_a_consumer_that_stops_leaves_no_thread(tmp_path):
    with (tmp_path / "large").open("wb") as target:
        target.truncate(64 << 20)
    events = Importer(RECURSIVE, discard).add([str(tmp_path / "large")])
    assert next(events).cid is None
    events.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ipfs-mfs-hash")]


def test_an_error_of_the_sink_ends_the_import(tmp_path):
    class FullError(Exception):
        pass

    def full(_blocks: list[Block]) -> None:
        raise FullError

    with (tmp_path / "large").open("wb") as target:
        target.truncate(64 << 20)
    with pytest.raises(FullError):
        list(Importer(RECURSIVE, full).add([str(tmp_path / "large")]))
    assert not [t for t in threading.enumerate() if t.name.startswith("ipfs-mfs-hash")]


def test_the_size_for_a_progress_bar_counts_what_will_be_read(tmp_path):
    (tmp_path / "top/below").mkdir(parents=True)
    (tmp_path / "top/file").write_bytes(b"12345")
    (tmp_path / "top/.hidden").write_bytes(b"123")
    (tmp_path / "top/below/file").write_bytes(b"12")
    (tmp_path / "top/link").symlink_to("file")
    paths = [str(tmp_path / "top"), str(tmp_path / "top/file")]
    assert content_size_bytes(paths, RECURSIVE) == 5 + 2 + 5
    assert content_size_bytes(paths, replace(RECURSIVE, hidden=True)) == 5 + 3 + 2 + 5
    assert content_size_bytes(["-"], RECURSIVE) == 0


def test_a_very_deep_tree_needs_no_stack(tmp_path):
    """Deeper than Python's recursion limit."""
    depth = 1500
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    try:
        assert len(run([tmp_path / "d"])) == depth
    finally:
        # pytest removes old folders recursively and would itself exceed the limit.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_standard_input_may_be_any_file_with_a_descriptor():
    with pytest.raises(io.UnsupportedOperation):
        run(["-"], stdin=io.BytesIO(b"no descriptor"))
