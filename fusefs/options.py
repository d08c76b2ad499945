"""The mount options, as one frozen value.

Invariant: a `MountOptions` is consistent; contradictions are refused by `parse`, so that nobody
further down has to look for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from fusefs.errors import InvalidMountOption

DEFAULT_READ_AHEAD_BYTES = 1 << 20
DEFAULT_ROOT = "main"
SYNC_POLICIES = ("fsync", "close", "always")
AUTO, PYFUSE3, KERNEL = "auto", "pyfuse3", "kernel"
TRANSPORTS = (AUTO, PYFUSE3, KERNEL)
_SIZE = re.compile(r"(\d+)([kKmM]?)")
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


@dataclass(frozen=True)
class MountOptions:
    """What to show, and how.

    At most one of `root`, `all_roots` and `cid` is set; none means the root `main`.
    """

    root: str | None = None
    all_roots: bool = False
    cid: str | None = None
    read_only: bool = False
    allow_other: bool = False
    default_permissions: bool = True
    nonempty: bool = False
    suid: bool = False
    """Honour set-user-ID programs, and `dev` device nodes, found on the mount."""
    dev: bool = False
    execute: bool = True
    uid: int | None = None
    """Shown as the owner of everything, whatever is stored."""
    gid: int | None = None
    umask: int | None = None
    """Permission bits taken away from what is shown."""
    update_atime: bool = True
    """relatime; False is noatime."""
    read_ahead_bytes: int = DEFAULT_READ_AHEAD_BYTES
    sync: str = "fsync"
    """When an answer means durable: `fsync` when asked, `close` also at close(2), `always`."""
    transport: str = AUTO
    """How to talk to the kernel: through libfuse, or in its own protocol."""
    profile: str | None = None
    """Profile of the root, should the mount have to create it. Not used in this layer."""

    @classmethod
    def parse(cls, text: str) -> MountOptions:
        """Options of `-o a,b=c`. Raises InvalidMountOption naming the one that is wrong."""
        options = cls()
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, separator, value = item.partition("=")
            try:
                options = _apply(options, name, value if separator else None)
            except ValueError as error:
                raise InvalidMountOption(f"{item}: {error}") from None
        options.validate()
        return options

    def validate(self) -> None:
        """Refuse combinations that have no meaning."""
        views = [name for name in ("root", "all_roots", "cid") if getattr(self, name)]
        if len(views) > 1:
            raise InvalidMountOption("root=, all and cid= exclude each other (choose one)")
        if self.sync not in SYNC_POLICIES:
            raise InvalidMountOption(f"sync={self.sync}: one of {', '.join(SYNC_POLICIES)}")
        if self.transport not in TRANSPORTS:
            raise InvalidMountOption(f"transport={self.transport}: one of {', '.join(TRANSPORTS)}")

    @property
    def root_name(self) -> str | None:
        """The one root to show, or None where the view is another."""
        if self.all_roots or self.cid:
            return None
        return self.root or DEFAULT_ROOT

    def describe(self) -> str:
        """What the view shows, for messages and /proc/mounts."""
        if self.cid:
            return self.cid
        return self.root_name or "all"


def _text(value: str) -> str:
    if not value:
        raise ValueError("needs a value")
    return value


def _number(base: int, limit: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        try:
            number = int(value, base)
        except ValueError:
            raise ValueError(f"needs a number in base {base}") from None
        if not 0 <= number < limit:
            raise ValueError(f"must be below {limit}")
        return number

    return convert


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError("needs a size in bytes, such as 131072, 128k or 1M")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


_ID_LIMIT = (1 << 32) - 1  # the last uid means "leave alone" to chown(2)
_VALUED: dict[str, tuple[str, Callable[[str], object]]] = {
    "root": ("root", _text),
    "cid": ("cid", _text),
    "uid": ("uid", _number(10, _ID_LIMIT)),
    "gid": ("gid", _number(10, _ID_LIMIT)),
    "umask": ("umask", _number(8, 0o1000)),
    "read_ahead": ("read_ahead_bytes", _size),
    "sync": ("sync", _text),
    "transport": ("transport", _text),
    "profile": ("profile", _text),
}
_FLAGS: dict[str, dict[str, object]] = {
    "all": {"all_roots": True},
    "ro": {"read_only": True},
    "rw": {"read_only": False},
    "allow_other": {"allow_other": True},
    "default_permissions": {"default_permissions": True},
    "no_default_permissions": {"default_permissions": False},
    "nonempty": {"nonempty": True},
    "suid": {"suid": True},
    "nosuid": {"suid": False},
    "dev": {"dev": True},
    "nodev": {"dev": False},
    "exec": {"execute": True},
    "noexec": {"execute": False},
    "noatime": {"update_atime": False},
    "relatime": {"update_atime": True},
    # What mount(8) and systemd add on their own; the kernel's defaults for FUSE already do it.
    "defaults": {},
    "_netdev": {},
    "auto": {},
    "noauto": {},
    "nofail": {},
    "user": {},
    "nouser": {},
}


def _apply(options: MountOptions, name: str, value: str | None) -> MountOptions:
    if name.startswith("x-"):
        return options  # fstab comments for other programs, as mount(8) treats them
    if name in _FLAGS:
        if value is not None:
            raise ValueError("takes no value")
        return replace(options, **_FLAGS[name])  # type: ignore[arg-type]  # fields are named above
    if name in _VALUED:
        if value is None:
            raise ValueError("needs a value")
        field, convert = _VALUED[name]
        return replace(options, **{field: convert(value)})  # type: ignore[arg-type]  # same
    known = ", ".join(sorted([*_FLAGS, *(f"{valued}=" for valued in _VALUED)]))
    raise ValueError(f"unknown mount option (known: {known})")


def to_text(options: MountOptions) -> str:
    """The inverse of `parse`, for a process that starts another one."""
    items: list[str] = []
    by_field = {field: name for name, (field, _) in _VALUED.items()}
    flags = {next(iter(change.items())): name for name, change in _FLAGS.items() if change}
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        if field.name in by_field:
            shown = f"{value:03o}" if field.name == "umask" else value
            items.append(f"{by_field[field.name]}={shown}")
        else:
            items.append(flags[(field.name, value)])
    return ",".join(items)
