"""What a name may be when it comes from a command line, the control socket or a DAG.

Guards against names that would leave a directory ('..', '/'), end early in C code (NUL) or exceed
what the kernel stores (255 bytes). Layers below check their own rules again.
"""

from ipfs_mfs.errors import BadName, UnsafeName

NAME_MAX_BYTES = 255
ROOT_FORBIDDEN = "/@\0"


def check_root_name(name: str, what: str = "root") -> str:
    """`name` when it can name a root, snapshot or pin; else BadName."""
    size_bytes = len(name.encode("utf-8", "surrogateescape"))
    if not 1 <= size_bytes <= NAME_MAX_BYTES:
        raise BadName(f"{what} name of {size_bytes} bytes", f"use 1 to {NAME_MAX_BYTES} bytes")
    if name.startswith("."):
        raise BadName(f"{what} name {name!r} starts with '.'", "choose another first character")
    if any(character in ROOT_FORBIDDEN for character in name):
        raise BadName(f"{what} name {name!r} holds '/', '@' or NUL", "leave these out")
    if not name.isprintable():
        raise BadName(f"{what} name {name!r} holds characters that do not print", "leave these out")
    return name


def check_pin_name(name: str) -> str:
    """A note for a pin; it names nothing, so anything that prints will do."""
    if len(name.encode("utf-8", "surrogateescape")) > NAME_MAX_BYTES or not (
        name.isprintable() or not name
    ):
        raise BadName(f"pin name {name[:40]!r}…", f"use at most {NAME_MAX_BYTES} printable bytes")
    return name


def check_segment(segment: bytes) -> bytes:
    """A path segment of an ADDR; else BadName. '.' and '..' have no meaning inside a DAG."""
    if len(segment) > NAME_MAX_BYTES:
        raise BadName(f"path segment of {len(segment)} bytes", f"the limit is {NAME_MAX_BYTES}")
    if segment in (b"", b".", b"..") or b"/" in segment or b"\0" in segment:
        raise BadName(f"path segment {segment!r} is not a file name", "write the plain path")
    return segment


def check_extracted(name: bytes, below: str) -> bytes:
    """An entry name of a DAG that is to become a file name on this machine; else UnsafeName."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise UnsafeName(
            f"{below}: entry {name!r} would leave the target directory",
            "fetch the other entries one by one",
        )
    if len(name) > NAME_MAX_BYTES:
        raise UnsafeName(
            f"{below}: entry name of {len(name)} bytes does not fit into a file system",
            "fetch the other entries one by one",
        )
    return name
