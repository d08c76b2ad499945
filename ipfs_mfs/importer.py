"""Files, directories and standard input into blocks: the work of `add`.

Entries are walked in byte order of their names. Events come as Kubo prints them: every file when
its root is known, then the directories from the deepest up, the argument itself last. Blocks go to
the sink in batches, always before the event that names the root above them.

Bounds: two batches, the leaves under way in the hashing pool, one node per level of the file, and
the entries of the directories on the current path. Leaves are hashed on a few threads, because
hashing releases the interpreter lock, and full batches are stored on one, because writing does;
everything else stays on the caller's. The sink is called by one thread at a time.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from ipfs_mfs.addoptions import AddOptions, profile_of
from ipfs_mfs.errors import BadOption, WrongKind
from ipld import chunk, dirdag, filedag
from ipld import cid as cids
from ipld.block import Block
from ipld.dirdag import Entry
from ipld.filedag import FileLink
from ipld.profile import Profile
from ipld.unixfs import Attributes

_BATCH_SIZE_BYTES = 4 << 20
_BATCH_BLOCKS = 1024
_PROGRESS_STEP_BYTES = 4 << 20
_HASHING_THREADS_MAX = 4
# What is read and handed to a thread at once: a task costs as much as hashing 64 KiB.
_PORTION_SIZE_MIN_BYTES = 1 << 20
# A buffer as large as a portion would cost more than reading most files: only the first read, whose
# size is known for regular files, is that large.
_NEXT_READ_BYTES = 64 << 10

PutMany: TypeAlias = Callable[[list[Block]], object]
_Leaves: TypeAlias = list[tuple[Block, FileLink]]
_Read: TypeAlias = Callable[[], bytes]


class _Hashed(NamedTuple):
    """A part of a file as read, and its leaves."""

    portion: bytes
    leaves: _Leaves


class Event(NamedTuple):
    """With `cid`: an entry was added. Without: `size_bytes` of this file have been read so far."""

    name: bytes
    """As printed: the argument's last component and the path below it; empty for the wrapper."""
    cid: bytes | None
    size_bytes: int
    """Content for files, encoded bytes of the whole DAG for everything else."""
    is_root: bool = False
    """Whether this is what the user asked for (and what a pin has to keep), not a part of it."""


class _Source(NamedTuple):
    """One argument."""

    name: bytes
    path: Path | None
    """None: standard input."""


@dataclass(slots=True)
class _OpenDirectory:
    """A directory on the current path, and what is known of its content."""

    name: bytes
    """As printed."""
    last_name: bytes
    status: os.stat_result
    left: deque["os.DirEntry[bytes]"]
    entries: list[Entry] = field(default_factory=list)


class Importer:
    """One run of `add`. `put_many` takes lists of blocks; with only-hash it throws them away."""

    def __init__(self, options: AddOptions, put_many: PutMany) -> None:
        self.profile: Profile = profile_of(options)
        self._options = options
        chunk_size = self.profile.chunk_size_bytes
        self._portion_size_bytes = chunk_size * max(1, _PORTION_SIZE_MIN_BYTES // chunk_size)
        self._follows = options.dereference_symlinks
        self._put_many = put_many
        self._batch: list[Block] = []
        self._batch_size_bytes = 0
        self._storing: Future[object] | None = None
        self._threads = min(_HASHING_THREADS_MAX, os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None
        self._writer: ThreadPoolExecutor | None = None

    def add(
        self, paths: Sequence[str | bytes], stdin: BinaryIO | None = None
    ) -> Generator[Event, None, None]:
        """Add every path; `-` is `stdin`. Arguments are taken in order of their last component.

        Raises BadOption, WrongKind, and OSError that names the path.
        """
        sources = _sources(paths, self._options)
        try:
            if self._options.wrap:
                yield from self._add_wrapped(sources, stdin)
            else:
                for source in sources:
                    directories: list[Event] = []
                    yield from self._add_source(source, stdin, directories, is_root=True)
                    yield from directories
            self._flush()
        finally:
            for pool in (self._pool, self._writer):
                if pool is not None:
                    pool.shutdown(cancel_futures=True)

    def _add_wrapped(self, sources: list[_Source], stdin: BinaryIO | None) -> Iterator[Event]:
        entries: dict[bytes, Entry] = {}
        directories: list[Event] = []
        for source in sources:
            entry = yield from self._add_source(source, stdin, directories, is_root=False)
            if entry is not None:
                entries[entry.name] = entry
        attributes = self._options.attributes(None)
        root = dirdag.build(entries.values(), self.profile, self._put, attributes)
        self._flush()
        yield from directories
        yield Event(b"", root.cid, root.tsize, is_root=True)

    def _add_source(
        self,
        source: _Source,
        stdin: BinaryIO | None,
        directories: list[Event],
        *,
        is_root: bool,
    ) -> Generator[Event, None, Entry | None]:
        """Yields the events of files; those of directories wait in `directories`."""
        name = source.name
        if source.path is None:
            assert stdin is not None, "whoever passes - passes it, too"
            link = yield from self._add_content(stdin.fileno(), name, None)
            # It has no name; like Kubo, use the only thing that is known of it.
            name = cids.to_text(link.cid).encode()
        else:
            status = source.path.stat() if self._follows else source.path.lstat()
            if stat.S_ISDIR(status.st_mode):
                return (yield from self._add_directory(source, status, directories, is_root))
            link = yield from self._add_leaf(os.fsencode(source.path), name, status)
        if is_root:
            self._flush()
        yield Event(name, link.cid, link.size, is_root)
        return Entry(name, link.cid, link.tsize)

    def _add_directory(
        self, source: _Source, status: os.stat_result, directories: list[Event], is_root: bool
    ) -> Generator[Event, None, Entry | None]:
        """A whole tree, depth first, without recursion: paths may be deeper than Python's stack."""
        open_path: list[_OpenDirectory] = []
        listed = self._listed(os.fsencode(source.path or "."))
        top = _OpenDirectory(source.name, source.name, status, listed)
        self._enter(open_path, top, is_wanted=is_root)
        entry: Entry | None = None
        while open_path:
            directory = open_path[-1]
            if not directory.left:
                open_path.pop()
                entry = self._close(directory, directories, is_root=is_root and not open_path)
                if open_path:
                    open_path[-1].entries.append(entry)
                continue
            child = directory.left.popleft()
            name = directory.name + b"/" + child.name
            status = child.stat(follow_symlinks=self._follows)
            if stat.S_ISDIR(status.st_mode):
                below = _OpenDirectory(name, child.name, status, self._listed(child.path))
                self._enter(open_path, below, is_wanted=False)
                continue
            link = yield from self._add_leaf(child.path, name, status)
            directory.entries.append(Entry(child.name, link.cid, link.tsize))
            yield Event(name, link.cid, link.size)
        return entry

    def _listed(self, path: bytes) -> deque["os.DirEntry[bytes]"]:
        with os.scandir(path) as listing:
            wanted = [e for e in listing if self._options.hidden or not e.name.startswith(b".")]
        return deque(sorted(wanted, key=attrgetter("name")))

    def _enter(
        self, open_path: list[_OpenDirectory], directory: _OpenDirectory, *, is_wanted: bool
    ) -> None:
        """Make a directory the last of the current path, unless it is empty and not wanted."""
        identity = directory.status.st_dev, directory.status.st_ino
        if any((above.status.st_dev, above.status.st_ino) == identity for above in open_path):
            shown = os.fsdecode(directory.name)
            raise WrongKind(f"{shown} leads back into itself", "do not dereference symbolic links")
        if is_wanted or self._options.empty_dirs or directory.left:
            open_path.append(directory)

    def _close(
        self, directory: _OpenDirectory, directories: list[Event], *, is_root: bool
    ) -> Entry:
        attributes = self._options.attributes(directory.status)
        link = dirdag.build(directory.entries, self.profile, self._put, attributes)
        if is_root:
            self._flush()
        directories.append(Event(directory.name, link.cid, link.tsize, is_root))
        return Entry(directory.last_name, link.cid, link.tsize)

    def _add_leaf(
        self, path: bytes, name: bytes, status: os.stat_result
    ) -> Generator[Event, None, FileLink]:
        """A file or a symbolic link."""
        attributes = self._options.attributes(status)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(path)  # noqa: PTH115  # a Path would tidy up the target's bytes
            return filedag.symlink(target, self.profile, self._put, attributes)
        # A pipe that is an argument is read; one that was found in a directory could wait for ever.
        is_argument = b"/" not in name
        if not stat.S_ISREG(status.st_mode) and not (is_argument and stat.S_ISFIFO(status.st_mode)):
            raise WrongKind(f"{os.fsdecode(path)} is neither a file, directory nor symbolic link")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            is_regular = stat.S_ISREG(status.st_mode)
            size_bytes = status.st_size
            return (
                yield from self._add_content(
                    descriptor, name, attributes, size_bytes, is_regular=is_regular
                )
            )
        finally:
            os.close(descriptor)

    def _add_content(
        self,
        descriptor: int,
        name: bytes,
        attributes: Attributes | None,
        size_hint_bytes: int = _NEXT_READ_BYTES,
        *,
        is_regular: bool = False,
    ) -> Generator[Event, None, FileLink]:
        """Everything that can be read from an open file; the hint may be wrong. A regular one is
        read from its beginning."""
        first = _read(descriptor, self._portion_size_bytes, max(1, size_hint_bytes))
        if len(first) < self._portion_size_bytes:
            return filedag.add_bytes(first, self.profile, self._put, attributes)
        assembler = filedag.Assembler(self.profile, self._put, attributes)
        read = reported = 0
        for portion, leaves in self._hashed(descriptor, first, is_regular=is_regular):
            for block, link in leaves:
                self._put(block)
                assembler.add(link, portion)
            read += len(portion)
            if read - reported >= _PROGRESS_STEP_BYTES:
                reported = read
                yield Event(name, None, read)
        return assembler.finish()

    def _hashed(self, descriptor: int, first: bytes, *, is_regular: bool) -> Iterator[_Hashed]:
        """Portions of the file and their leaves in order, hashed a bounded way ahead."""
        self._pool = self._pool or ThreadPoolExecutor(self._threads, "ipfs-mfs-hash")
        under_way: deque[Future[_Hashed]] = deque()
        try:
            for read in self._reads(descriptor, first, is_regular):
                under_way.append(self._pool.submit(_read_and_hash, read, self.profile))
                if len(under_way) > 2 * self._threads:
                    hashed = under_way.popleft().result()
                    if hashed.portion:
                        yield hashed
                    if len(hashed.portion) < self._portion_size_bytes:
                        return
            while under_way:
                yield under_way.popleft().result()
        finally:
            # The descriptor is closed next, and its number may be given to another file.
            for future in under_way:
                future.cancel()
            wait(under_way)

    def _reads(self, descriptor: int, first: bytes, is_regular: bool) -> Iterator[_Read]:
        """What gives the portions, one after the other. Those of a regular file are read by
        whoever hashes them, and go on behind its end, where they are empty."""
        size_bytes = self._portion_size_bytes
        yield lambda: first
        if is_regular:
            for offset in count(size_bytes, size_bytes):
                yield partial(_read_at, descriptor, size_bytes, offset)
        while portion := _read(descriptor, size_bytes, size_bytes):
            yield partial(bytes, portion)

    def _put(self, block: Block) -> None:
        if self.profile.inline and cids.is_identity(block.cid):
            return
        self._batch.append(block)
        self._batch_size_bytes += len(block.data)
        if self._batch_size_bytes >= _BATCH_SIZE_BYTES or len(self._batch) >= _BATCH_BLOCKS:
            self._start_storing()

    def _start_storing(self) -> None:
        """Hand the batch to the thread that stores, when the one before is stored."""
        self._wait_for_storing()
        self._writer = self._writer or ThreadPoolExecutor(1, "ipfs-mfs-store")
        self._storing = self._writer.submit(self._put_many, self._batch)
        self._batch, self._batch_size_bytes = [], 0

    def _wait_for_storing(self) -> None:
        storing, self._storing = self._storing, None
        if storing is not None:
            storing.result()

    def _flush(self) -> None:
        """Returns when the sink has everything."""
        self._wait_for_storing()
        if self._batch:
            self._put_many(self._batch)
            self._batch, self._batch_size_bytes = [], 0


def content_size_bytes(paths: Sequence[str | bytes], options: AddOptions) -> int:
    """How much content `add` will read, for a progress bar; what cannot be known counts as 0."""
    follows = options.dereference_symlinks
    total = 0
    folders: list[bytes] = []
    for source in _sources(paths, options):
        if source.path is not None:
            status = source.path.stat() if follows else source.path.lstat()
            if stat.S_ISDIR(status.st_mode):
                folders.append(os.fsencode(source.path))
            elif stat.S_ISREG(status.st_mode):
                total += status.st_size
    while folders:
        with os.scandir(folders.pop()) as listing:
            for entry in listing:
                if entry.name.startswith(b".") and not options.hidden:
                    continue
                if entry.is_dir(follow_symlinks=follows):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=follows):
                    total += entry.stat(follow_symlinks=follows).st_size
    return total


def _sources(paths: Sequence[str | bytes], options: AddOptions) -> list[_Source]:
    """The arguments in the order of their names; the same path twice counts once."""
    sources: dict[bytes, _Source] = {}
    for argument in paths:
        path = Path(os.fsdecode(argument))
        if str(path) == "-":
            sources[b""] = _Source(b"", None)
            continue
        if options.dereference_symlinks or path.name in ("", ".."):
            path = path.resolve(strict=True)
        if path.is_dir() and not path.is_symlink() and not options.recursive:
            raise BadOption(f"{path} is a directory", "add it with -r")
        name = os.fsencode(path.name) or b"/"
        known = sources.setdefault(name, _Source(name, path))
        if known.path != path:
            raise BadOption(f"two arguments are called {path.name}", "add them one by one")
    return sorted(sources.values(), key=attrgetter("name"))


def _read_and_hash(read: _Read, profile: Profile) -> _Hashed:
    portion = read()
    pieces = chunk.split(portion, profile.chunk_size_bytes) if portion else ()
    return _Hashed(portion, [filedag.make_leaf(piece, profile) for piece in pieces])


def _read_at(descriptor: int, size_bytes: int, offset: int) -> bytes:
    """As much of a regular file; less at its end."""
    data = os.pread(descriptor, size_bytes, offset)
    while 0 < len(data) < size_bytes:
        more = os.pread(descriptor, size_bytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _read(descriptor: int, size_bytes: int, first_read_bytes: int) -> bytes:
    """The next `size_bytes`, or less at the end of the file; a pipe gives what it has each time."""
    pieces: list[bytes] = []
    missing, step = size_bytes, first_read_bytes
    while missing and (data := os.read(descriptor, min(missing, step))):
        pieces.append(data)
        missing -= len(data)
        step = _NEXT_READ_BYTES
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
