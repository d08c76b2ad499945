"""Keys: paths like `/Comedy/Sketch:CheeseShop`, cleaned, compared and taken apart.

A key is a sequence of namespaces, and a namespace may carry a type: `type:name`. The rules are
those of go-datastore, so that keys of its users mean the same here.

Invariants
- A key begins with a slash and has no empty namespace, no `.` and no `..`; only the root, `/`,
  ends with one. Two keys are equal exactly when their bytes are.
- A key has at most KEY_SIZE_MAX_BYTES bytes of UTF-8. Bytes that are no UTF-8 are kept as lone
  surrogates, as Python keeps them in file names.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import total_ordering
from typing import Final

from datastore.errors import InvalidKey

KEY_SIZE_MAX_BYTES: Final = 4096
_RANDOM_SIZE_BYTES = 16


@total_ordering
class Key:
    """One key; immutable. `Key("a//b/../c")` is `/a/c`; the empty text is the root.

    `text` is for people, `raw` are the bytes that are stored and that queries order by.
    """

    __slots__ = ("raw", "text")

    raw: bytes
    text: str

    def __init__(self, text: str = "/") -> None:
        """Raises InvalidKey."""
        if not isinstance(text, str):
            raise InvalidKey(f"a key is made of text, not of {type(text).__name__}")
        cleaned = _cleaned(text)
        try:
            raw = cleaned.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise InvalidKey(f"a key with {error.object[error.start]!r} in it: {error}") from error
        if len(raw) > KEY_SIZE_MAX_BYTES:
            raise InvalidKey(f"a key has at most {KEY_SIZE_MAX_BYTES} bytes, not {len(raw)}")
        object.__setattr__(self, "text", cleaned)
        object.__setattr__(self, "raw", raw)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a key cannot be changed ({name})")

    def __reduce__(self) -> tuple[type[Key], tuple[str]]:
        return Key, (self.text,)

    @classmethod
    def from_raw(cls, raw: bytes) -> Key:
        """The key whose `raw` these bytes are: for stores that read back what they wrote."""
        key = cls.__new__(cls)
        object.__setattr__(key, "text", raw.decode("utf-8", "surrogateescape"))
        object.__setattr__(key, "raw", raw)
        return key

    @classmethod
    def of(cls, namespaces: Iterable[str]) -> Key:
        """The key that is made of these namespaces."""
        return cls("/".join(namespaces))

    @classmethod
    def random(cls) -> Key:
        """A key of one namespace that nobody has used."""
        return cls(secrets.token_hex(_RANDOM_SIZE_BYTES))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Key({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __lt__(self, other: Key) -> bool:
        """Namespace by namespace, an ancestor before its descendants."""
        return self.raw.split(b"/") < other.raw.split(b"/")

    @property
    def is_root(self) -> bool:
        return self.text == "/"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """What lies between the slashes; the root has none."""
        return () if self.is_root else tuple(self.text[1:].split("/"))

    @property
    def is_top_level(self) -> bool:
        """Whether it has one namespace only."""
        return len(self.namespaces) == 1

    @property
    def base(self) -> str:
        """The last namespace; empty for the root."""
        return self.text.rpartition("/")[2]

    @property
    def root_namespace(self) -> str:
        """The first namespace; empty for the root."""
        return self.text[1:].partition("/")[0]

    @property
    def type(self) -> str:
        """The type of the last namespace; empty where it has none."""
        return type_of(self.base)

    @property
    def name(self) -> str:
        """The last namespace without its type."""
        return name_of(self.base)

    @property
    def parent(self) -> Key:
        """Without the last namespace; the root's is the root."""
        return Key(self.text.rpartition("/")[0])

    @property
    def path(self) -> Key:
        """The parent and the type: what all instances of the type there have in common."""
        return self.parent.child(self.type)

    def instance(self, name: str) -> Key:
        """With the last namespace as the type of `name`."""
        return Key(f"{self.text}:{name}")

    def child(self, below: Key | str) -> Key:
        """`below`, under this key; a `..` in a text leads up from here."""
        return Key(f"{self.text}/{below}")

    def reversed(self) -> Key:
        """The namespaces in the other order."""
        return Key.of(reversed(self.namespaces))

    def is_ancestor_of(self, other: Key) -> bool:
        """Whether `other` lies below this key; no key lies below itself."""
        if self.is_root:
            return not other.is_root
        return other.raw.startswith(self.raw + b"/")

    def is_descendant_of(self, other: Key) -> bool:
        return other.is_ancestor_of(self)


def type_of(namespace: str) -> str:
    """All but the last part: `Music:Song` of `Music:Song:Philosopher`."""
    return namespace.rpartition(":")[0]


def name_of(namespace: str) -> str:
    """The last part: `Philosopher` of `Music:Song:Philosopher`."""
    return namespace.rpartition(":")[2]


def _cleaned(text: str) -> str:
    """The shortest path that means the same; nothing leads above the root."""
    kept: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del kept[-1:]
        elif part and part != ".":
            kept.append(part)
    return "/" + "/".join(kept)


ROOT: Final = Key()
"""Above every key. Nothing is stored under it; as a prefix it means everything."""
