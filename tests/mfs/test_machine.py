"""A whole tree against a model, with restarts and power cuts at any moment.

After each step the tree, the inode numbers and the errors are those of the model; whenever the CID
is asked for it is that of an importer. After a power cut the tree is what the model was at the last
commit, or at some moment since then: a prefix of history, never a mix.
"""

import copy
import stat
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mfs import errors
from mfs.node import ROOT_INO
from tests.mfs.worlds import TINY_PROFILES, World, content, model_cid

NAMES = st.sampled_from([b"a", b"b", b"c", b"d" * 40, b"\xff", b"e" * 60])
PICKS = st.integers(0, 1 << 16)


class File:
    def __init__(self, ino, data=b"", kind=stat.S_IFREG):
        self.ino, self.data, self.kind = ino, bytearray(data), kind
        self.nlink, self.mode, self.xattrs = 1, 0o644, {}


class Directory:
    def __init__(self, ino, parent):
        self.ino, self.parent, self.names = ino, parent, {}
        self.mode = 0o755


def directories(top):
    found = [top]
    for node in top.names.values():
        if isinstance(node, Directory):
            found += directories(node)
    return found


def files(top):
    found = []
    for node in top.names.values():
        if isinstance(node, Directory):
            found += files(node)
        elif node not in found:
            found.append(node)
    return found


def plain(top):
    """As `worlds.model_cid` wants it."""
    model = {}
    for name, node in top.names.items():
        if isinstance(node, Directory):
            model[name] = plain(node)
        elif node.kind == stat.S_IFLNK:
            model[name] = node.data.decode()
        elif node.kind == stat.S_IFREG:
            model[name] = bytes(node.data)
    return model


def picture(top):
    """Everything that must come back after a restart, comparable."""
    return {
        name: (node.ino, node.mode, picture(node))
        if isinstance(node, Directory)
        else (node.ino, node.mode, node.kind, bytes(node.data), node.nlink, node.xattrs)
        for name, node in top.names.items()
    }


def tree_picture(tree, ino=ROOT_INO):
    found: dict[bytes, tuple[Any, ...]] = {}
    for name, child, kind in tree.readdir(ino):
        seen = tree.getattr(child)
        mode = stat.S_IMODE(seen.mode)
        assert stat.S_IFMT(seen.mode) == kind
        if stat.S_ISDIR(kind):
            below = tree_picture(tree, child)
            found[name] = (child, mode, below)
            subdirectories = sum(1 for item in below.values() if len(item) == 3)
            assert (seen.nlink, seen.size) == (2 + subdirectories, len(below))
            continue
        data = b""
        if stat.S_ISREG(kind):
            data = content(tree, child)
            assert seen.size == len(data)
        elif stat.S_ISLNK(kind):
            data = tree.readlink(child)
        xattrs = {key: tree.getxattr(child, key) for key in tree.listxattr(child)}
        mode = 0o644 if stat.S_ISLNK(kind) else mode
        found[name] = (child, mode, kind, data, seen.nlink, xattrs)
    return found


class TreeMachine(RuleBasedStateMachine):
    @initialize(profile=st.sampled_from(TINY_PROFILES))
    def start(self, profile):
        self.profile = profile
        self.world = World(profile)
        self.tree = self.world.tree
        self.model = Directory(ROOT_INO, None)
        self.moments = []
        self.committed()

    # ------------------------------------------------------------------------- helpers

    def committed(self):
        self.moments = [copy.deepcopy(self.model)]

    def happened(self):
        self.moments.append(copy.deepcopy(self.model))

    def directory(self, pick):
        found = directories(self.model)
        return found[pick % len(found)]

    def file(self, pick, kind=stat.S_IFREG):
        found = [node for node in files(self.model) if node.kind == kind]
        return found[pick % len(found)] if found else None

    def fails(self, error, call, *args, **options):
        try:
            call(*args, **options)
        except errors.TreeError as raised:
            assert type(raised) is error, (raised, error)
        else:
            raise AssertionError(f"{error} was not raised")

    # --------------------------------------------------------------------------- names

    @rule(
        pick=PICKS,
        name=NAMES,
        data=st.binary(max_size=50),
        kind=st.sampled_from([stat.S_IFREG, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO]),
    )
    def make(self, pick, name, data, kind):
        directory, tree = self.directory(pick), self.tree
        target = b"to" + data.hex().encode()
        calls: dict[int, Any] = {
            stat.S_IFREG: (tree.create, 0o644, 0, 0),
            stat.S_IFLNK: (tree.symlink, target, 0, 0),
            stat.S_IFIFO: (tree.mknod, stat.S_IFIFO | 0o644, 0, 0, 0),
        }
        call, *args = calls[kind]
        if name in directory.names:
            self.fails(errors.EntryExists, call, directory.ino, name, *args)
            return
        made = call(directory.ino, name, *args)
        if kind == stat.S_IFREG:
            tree.write(made.ino, 0, data)
        held = {stat.S_IFREG: data, stat.S_IFLNK: target, stat.S_IFIFO: b""}[kind]
        directory.names[name] = File(made.ino, held, kind)
        self.happened()

    @rule(pick=PICKS, name=NAMES)
    def mkdir(self, pick, name):
        directory = self.directory(pick)
        if name in directory.names:
            self.fails(errors.EntryExists, self.tree.mkdir, directory.ino, name, 0o755, 0, 0)
            return
        made = self.tree.mkdir(directory.ino, name, 0o755, 0, 0)
        directory.names[name] = Directory(made.ino, directory)
        self.happened()

    @rule(pick=PICKS, name=NAMES)
    def remove(self, pick, name):
        directory = self.directory(pick)
        node = directory.names.get(name)
        if node is None:
            self.fails(errors.NoSuchEntry, self.tree.unlink, directory.ino, name)
            self.fails(errors.NoSuchEntry, self.tree.rmdir, directory.ino, name)
        elif isinstance(node, Directory):
            self.fails(errors.IsADirectory, self.tree.unlink, directory.ino, name)
            if node.names:
                self.fails(errors.DirectoryNotEmpty, self.tree.rmdir, directory.ino, name)
                return
            self.tree.rmdir(directory.ino, name)
            del directory.names[name]
        else:
            self.fails(errors.NotADirectory, self.tree.rmdir, directory.ino, name)
            self.tree.unlink(directory.ino, name)
            node.nlink -= 1
            del directory.names[name]
        self.happened()

    @rule(
        pick=PICKS,
        name=NAMES,
        new_pick=PICKS,
        new_name=NAMES,
        how=st.sampled_from(["replace", "replace", "no_replace", "exchange"]),
    )
    def rename(self, pick, name, new_pick, new_name, how):
        source_dir, target_dir = self.directory(pick), self.directory(new_pick)
        source, target = source_dir.names.get(name), target_dir.names.get(new_name)
        error = self.rename_error(source_dir, source, target_dir, target, how)
        options: dict[str, Any] = {} if how == "replace" else {how: True}
        args = (source_dir.ino, name, target_dir.ino, new_name)
        if error is not None:
            self.fails(error, self.tree.rename, *args, **options)
            return
        self.tree.rename(*args, **options)
        if source is target:
            return
        if how == "exchange":
            source_dir.names[name], target_dir.names[new_name] = target, source
            if isinstance(target, Directory):
                target.parent = source_dir
        else:
            if isinstance(target, File):
                target.nlink -= 1
            del source_dir.names[name]
            target_dir.names[new_name] = source
        if isinstance(source, Directory):
            source.parent = target_dir
        self.happened()

    def rename_error(self, source_dir, source, target_dir, target, how):
        if source is None:
            return errors.NoSuchEntry
        if target is not None and how == "no_replace":
            return errors.EntryExists
        if isinstance(source, Directory) and target_dir in directories(source):
            return errors.InvalidArgument
        if how == "exchange":
            if target is None:
                return errors.NoSuchEntry
            inside = isinstance(target, Directory) and source_dir in directories(target)
            return errors.InvalidArgument if inside else None
        if target is None or source is target:
            return None
        if isinstance(source, Directory) != isinstance(target, Directory):
            is_directory = isinstance(target, Directory)
            return errors.IsADirectory if is_directory else errors.NotADirectory
        return errors.DirectoryNotEmpty if isinstance(target, Directory) and target.names else None

    @rule(pick=PICKS, new_pick=PICKS, name=NAMES)
    def link(self, pick, new_pick, name):
        node, directory = self.file(pick), self.directory(new_pick)
        if node is None:
            return
        if name in directory.names:
            self.fails(errors.EntryExists, self.tree.link, node.ino, directory.ino, name)
            return
        assert self.tree.link(node.ino, directory.ino, name).nlink == node.nlink + 1
        node.nlink += 1
        directory.names[name] = node
        self.happened()

    # ------------------------------------------------------------------------- content

    @rule(pick=PICKS, offset=st.integers(0, 90), data=st.binary(min_size=1, max_size=70))
    def write(self, pick, offset, data):
        node = self.file(pick)
        if node is None:
            return
        self.tree.write(node.ino, offset, data)
        node.data.extend(bytes(max(0, offset + len(data) - len(node.data))))
        node.data[offset : offset + len(data)] = data
        self.happened()

    @rule(pick=PICKS, size=st.integers(0, 120))
    def truncate(self, pick, size):
        node = self.file(pick)
        if node is None:
            return
        self.tree.setattr(node.ino, size=size)
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))
        self.happened()

    @rule(pick=PICKS, mode=st.integers(0, 0o777), value=st.binary(max_size=8))
    def attributes(self, pick, mode, value):
        node = self.file(pick)
        if node is None:
            return
        self.tree.setattr(node.ino, mode=mode)
        node.mode = mode
        self.happened()
        self.tree.setxattr(node.ino, b"user.x", value)
        node.xattrs = {b"user.x": value}
        self.happened()

    # ---------------------------------------------------------------------- durability

    @rule()
    def fsync(self):
        self.tree.fsync(ROOT_INO)
        self.committed()

    @rule()
    def write_back(self):
        self.world.roots.flush_due(self.world.clock.now_ns + 10**12)

    @rule()
    def sync(self):
        assert self.tree.sync() == model_cid(plain(self.model), self.profile)
        self.committed()

    @rule()
    def ask_for_the_cid(self):
        assert self.tree.cid_of(ROOT_INO) == model_cid(plain(self.model), self.profile)

    @rule()
    def restart(self):
        self.tree = self.world.reopen()
        self.committed()

    @rule(kept_count=st.one_of(st.just(0), st.integers(0, 200)))
    def power_cut(self, kept_count):
        self.tree = self.world.crash(kept_count)
        seen = tree_picture(self.tree)
        for moment in reversed(self.moments):
            if picture(moment) == seen:
                self.model = moment
                self.tree.sync()
                self.committed()
                return
        raise AssertionError(f"never was: {seen}")

    @rule(room=st.integers(0, 2000), journal=st.booleans())
    def run_out_of_room(self, room, journal):
        """Somewhere in a flush or in a batch, or not at all."""
        log = self.world.backend.log
        log.capacity_bytes = log.used_bytes + room
        try:
            if journal:
                self.tree.fsync(ROOT_INO)
            else:
                self.tree.sync()
            self.committed()
        except errors.NoSpace:
            pass
        log.capacity_bytes = None

    @rule()
    def collect_garbage(self):
        assert self.world.repo.gc().missing_count == 0

    @invariant()
    def tree_is_the_model(self):
        assert tree_picture(self.tree) == picture(self.model)


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=settings.default.max_examples, stateful_step_count=40)
