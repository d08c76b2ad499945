"""Reads the cases of tests/vectors/cid_vectors.json: `what` is the input, `flags` the parameters.

A tree is written `dir {name:"content", name:{…}, name -> target}`, names with odd characters in
quotes; a file `file "content"`. Everything that is a history or a block is built by hand in
test_vectors.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ipld import chunk, dirdag, filedag
from ipld.dirdag import Entry
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, Profile
from ipld.unixfs import Attributes

CASES = json.loads((Path(__file__).parents[1] / "vectors/cid_vectors.json").read_text())


class Symlink(NamedTuple):
    target: str


Tree: TypeAlias = Mapping[str, Any] | str | Symlink

_SYMLINK_TREE = (
    '{foo:{baz:"some text\\n"}, bar:{baz -> files/foo/baz}, bad -> files/does/not/exist}'
)


def profile_of(flags: str) -> Profile:
    """The import parameters that a case's `flags` stand for, by Kubo's rules of precedence."""
    if "unixfs-v1-2025" in flags:
        return UNIXFS_V1_2025
    options: dict[str, object] = {}
    hash_flag = re.search(r"(?:--hash|HashFunction)=([\w-]+)", flags)
    if hash_flag:
        options["hash_function"] = hash_flag[1]
    if hash_flag or re.search(r"--cid-version=1|CIDv1|CidVersion=1", flags):
        options |= {"cid_version": 1, "raw_leaves": True}
    if "--raw-leaves" in flags:
        options["raw_leaves"] = "--raw-leaves=false" not in flags
    if size := re.search(r"--chunker=(\S+)", flags):
        options["chunk_size_bytes"] = chunk.parse(size[1])
    if re.match(r"-t\b", flags):
        options["layout"] = "trickle"
    if "--inline" in flags:
        options["inline"] = True
    if "--mode" in flags or "--mtime" in flags:
        options["raw_leaves"] = False
    return UNIXFS_V0_2015.with_options(**options)


def attributes_of(flags: str) -> Attributes | None:
    """UnixFS 1.5 metadata in `flags`."""
    mode = re.search(r"(?:--mode=|dir mode )(\d+)", flags)
    mtime = re.search(r"(?:--mtime=|dir mtime )(\d+)", flags)
    nanoseconds = re.search(r"--mtime-nsecs=(\d+)", flags)
    if not mode and not mtime:
        return None
    return Attributes(
        int(mode[1], 8) if mode else None,
        (int(mtime[1]), int(nanoseconds[1]) if nanoseconds else 0) if mtime else None,
    )


# Files that a description names without saying again what is in them.
_KNOWN_CONTENTS = {"bar": "hello2", "foo": "hello1"}


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def tree(self) -> Tree:
        if self._take('"'):
            return self._quoted()
        assert self._take("{"), self._text[self._at :]
        entries: dict[str, Tree] = {}
        while not self._take("}"):
            names = [self._name()]
            while self._take(","):
                names.append(self._name())
            if self._take("->"):
                entries[names[0]] = Symlink(self._match(r"[^,}]+"))
            elif self._text[self._at] == "}":
                entries |= {name: _KNOWN_CONTENTS[name] for name in names}
            else:
                assert self._take(":") or self._take("="), self._text[self._at :]
                content = self.tree()
                for name in names:
                    entries[name] = content
            self._take(",")
        return entries

    def _name(self) -> str:
        return self._quoted() if self._take('"') else self._match(r"[^:,{}=\s]+")

    def _take(self, token: str) -> bool:
        """Step over a token and the blanks around it; blanks after an opening quote are content."""
        blanks_after = "" if token == '"' else r"\s*"
        found = re.compile(r"\s*" + re.escape(token) + blanks_after).match(self._text, self._at)
        self._at = found.end() if found else self._at
        return bool(found)

    def _match(self, pattern: str) -> str:
        found = re.compile(pattern).match(self._text, self._at)
        assert found, self._text[self._at :]
        self._at = found.end()
        return found[0].strip()

    def _quoted(self) -> str:
        text = self._match(r'(?:[^"\\]|\\.)*')
        self._at += 1
        return text.replace("\\n", "\n")


def found(pattern: str, text: str) -> re.Match[str]:
    """A match that a case's description must have."""
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in {text!r}"
    return match


def parse_tree(what: str) -> Tree:
    """The tree after `dir [NAME]` or `file`."""
    if what == "same dir with symlinks":
        return _Parser(_SYMLINK_TREE).tree()
    return _Parser(what[found(r'[{"]', what).start() :]).tree()


def build_tree(
    tree: Tree, profile: Profile, put, attributes: Attributes | None = None
) -> tuple[bytes, int]:
    """CID and tsize of a tree; every node gets the attributes, as `--mode` and `--mtime` do."""
    if isinstance(tree, str):
        return filedag.add_bytes(tree.encode(), profile, put, attributes)[:2]
    if isinstance(tree, Symlink):
        return filedag.symlink(tree.target.encode(), profile, put, attributes)[:2]
    entries = []
    for name, child in tree.items():
        entries.append(Entry(name.encode(), *build_tree(child, profile, put, attributes)))
    directory = dirdag.build(entries, profile, put, attributes)
    return directory.cid, directory.tsize
