"""The kernel's protocol: golden bytes, the kernel's own header, and messages that lie."""

import errno
import os
import random
import re
import stat
from pathlib import Path
from struct import Struct, calcsize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs import wire
from fusefs.errors import MalformedRequest
from mfs.node import Stat, StatFs

HEADER = Path("/usr/include/linux/fuse.h")
STAT = Stat(
    ino=5, mode=stat.S_IFREG | 0o644, nlink=2, uid=1000, gid=100, rdev=0, size=4097, blocks=16,
    atime_ns=1_500_000_000_000_000_001, mtime_ns=-1, ctime_ns=3_000_000_000, generation=7,
)  # fmt: skip


def request(opcode: int, body: bytes = b"", *, inode: int = 1, unique: int = 42) -> bytes:
    head = wire.IN_HEADER.pack(40 + len(body), opcode, unique, inode, 1000, 100, 77, 0, 0)
    return head + body


def parsed(message: bytes) -> wire.Request:
    return wire.parse(memoryview(message))


def refused(take, *arguments) -> None:
    with pytest.raises(MalformedRequest):
        take(*arguments)


# ---------------------------------------------------------------------------------- requests


def test_request_is_its_header_and_a_body():
    found = parsed(request(wire.LOOKUP, b"name\0", inode=9))
    assert found[:6] == (wire.LOOKUP, 42, 9, 1000, 100, 77)
    assert wire.name(found.body) == b"name"


def test_golden_bytes_of_a_request():
    message = bytes.fromhex(
        """
        2d000000 01000000 0200000000000000 0100000000000000 e8030000 64000000 4d000000
        0000 0000 6e616d6500
        """
    )
    assert parsed(message)[:6] == (wire.LOOKUP, 2, 1, 1000, 100, 77)
    assert wire.name(parsed(message).body) == b"name"


@pytest.mark.parametrize("cut", [0, 1, 39])
def test_message_shorter_than_a_header_is_refused(cut):
    refused(parsed, request(wire.GETATTR, bytes(16))[:cut])


@pytest.mark.parametrize("claimed", [0, 39, 41, 1 << 31])
def test_message_of_another_length_than_it_says_is_refused(claimed):
    message = bytearray(request(wire.GETATTR))
    message[:4] = claimed.to_bytes(4, "little")
    refused(parsed, bytes(message))


@pytest.mark.parametrize("body", [b"", b"a", b"a\0b", b"a\0b\0", b"\0\0"])
def test_one_name_is_ended_by_the_only_zero_byte(body):
    refused(wire.name, memoryview(body))


def test_two_names_are_two():
    assert wire.names(memoryview(b"12345678old\0new\0"), 8, 2) == [b"old", b"new"]
    refused(wire.names, memoryview(b"old\0new\0more\0"), 0, 2)
    refused(wire.names, memoryview(b"old\0"), 0, 2)


def test_empty_name_is_a_name():
    assert wire.name(memoryview(b"\0")) == b""


def test_forgotten_inodes_are_listed_alone_or_together():
    one = parsed(request(wire.FORGET, wire.FORGET_IN.pack(3), inode=8))
    assert wire.forgotten(one) == [(8, 3)]
    body = wire.BATCH_FORGET_IN.pack(2, 0) + wire.FORGET_ONE.pack(5, 1) + wire.FORGET_ONE.pack(6, 9)
    assert wire.forgotten(parsed(request(wire.BATCH_FORGET, body))) == [(5, 1), (6, 9)]


@pytest.mark.parametrize("count", [0, 1, 3, 1 << 31])
def test_batch_of_another_number_than_it_says_is_refused(count):
    body = wire.BATCH_FORGET_IN.pack(count, 0) + wire.FORGET_ONE.pack(5, 1) * 2
    refused(wire.forgotten, parsed(request(wire.BATCH_FORGET, body)))


def setattr_body(valid: int, **values: int) -> memoryview:
    order = (
        "size", "lock_owner", "atime", "mtime", "ctime", "atime_ns", "mtime_ns", "ctime_ns",
        "mode", "uid", "gid",
    )  # fmt: skip
    numbers = [values.get(name, 0) for name in order]
    return memoryview(wire.SETATTR_IN.pack(valid, 0, *numbers))


def test_only_what_is_said_to_change_changes():
    everything = {
        "size": 10, "atime": 1, "mtime": 2, "ctime": 3, "atime_ns": 4, "mtime_ns": 5, "ctime_ns": 6,
        "mode": stat.S_IFREG | 0o4755, "uid": 7, "gid": 8,
    }  # fmt: skip
    assert wire.changes(setattr_body(0, **everything)) == wire.Changes({}, False)
    all_bits = 0b100_0011_1111
    assert wire.changes(setattr_body(all_bits, **everything)).values == {
        "mode": 0o4755, "uid": 7, "gid": 8, "size": 10, "atime_ns": 1_000_000_004,
        "mtime_ns": 2_000_000_005, "ctime_ns": 3_000_000_006,
    }  # fmt: skip
    kills = wire.FATTR_SIZE | wire.FATTR_KILL_PRIVILEGES
    assert wire.changes(setattr_body(kills)) == wire.Changes({"size": 0}, True)


def test_times_before_1970_are_negative():
    body = setattr_body(wire.FATTR_MTIME, mtime=(1 << 64) - 1, mtime_ns=999_999_999)
    assert wire.changes(body).values == {"mtime_ns": -1}


def test_nonsense_in_a_change_is_refused():
    refused(wire.changes, setattr_body(wire.FATTR_MTIME, mtime_ns=1_000_000_000))
    refused(wire.changes, setattr_body(wire.FATTR_UID, uid=(1 << 32) - 1))
    refused(wire.changes, setattr_body(0)[:-1])


# ----------------------------------------------------------------------------------- answers


def test_golden_bytes_of_an_entry():
    found = wire.entry(STAT, 3600, 131072)
    assert found == bytes.fromhex(
        """
        0500000000000000 0700000000000000 100e000000000000 100e000000000000 00000000
        00000000 0500000000000000 0110000000000000 1000000000000000 002f685900000000
        ffffffffffffffff 0300000000000000 01000000 ffc99a3b 00000000 a4810000 02000000
        e8030000 64000000 00000000 00000200 00000000
        """
    )


def test_name_that_is_not_there_is_inode_zero_with_a_time():
    found = wire.no_entry(60)
    assert len(found) == len(wire.entry(STAT, 1, 1)) == 128
    assert found[:8] == bytes(8)
    assert Struct("=Q").unpack_from(found, 16) == (60,)


def test_device_numbers_are_those_of_the_protocol():
    at = wire.ATTR.size - 12
    for rdev in (os.makedev(8, 1), os.makedev(4095, 255), os.makedev(1, 1 << 19)):
        packed = wire.attr(STAT._replace(rdev=rdev), 4096)
        assert Struct("=I").unpack_from(packed, at) == (rdev & 0xFFFF_FFFF,)


def test_answers_say_how_long_they_are():
    assert wire.answer(7, 10) == Struct("=IiQ").pack(26, 0, 7)
    assert wire.refusal(7, errno.ENOENT) == Struct("=IiQ").pack(16, -errno.ENOENT, 7)


def test_room_is_told_in_blocks():
    facts = StatFs(40960, 8192, 5, 1000, 255)
    blocks = Struct("=QQQQQIII").unpack_from(wire.statfs(facts, 4096))
    assert blocks == (10, 2, 2, 5, 1000, 4096, 255, 4096)


def listed(count: int) -> list[wire.Listed]:
    return [(b"n" * (1 + number % 9), STAT._replace(ino=10 + number), number + 1)
            for number in range(count)]  # fmt: skip


def test_listing_takes_what_fits_and_every_entry_is_whole():
    entries = listed(20)
    for size_bytes in range(0, 800, 7):
        data, taken = wire.listing(entries, size_bytes, None)
        assert len(data) <= size_bytes
        assert len(data) % 8 == 0
        names, at = [], 0
        while at < len(data):
            _, _, length, kind = wire.DIRENT.unpack_from(data, at)
            names.append(data[at + 24 : at + 24 + length])
            assert kind == stat.S_IFREG >> 12
            at += (24 + length + 7) & -8
        assert names == [name for name, _, _ in entries[:taken]]
    assert wire.listing(entries, 1 << 20, None)[1] == 20


def test_listing_with_attributes_has_an_entry_before_each_name():
    data, taken = wire.listing(listed(3), 1 << 20, lambda stat: wire.entry(stat, 1, 4096))
    assert taken == 3
    assert [Struct("=Q").unpack_from(data, at) for at in (0, 160, 320)] == [(10,), (11,), (12,)]


def test_notifications_have_no_request():
    assert wire.inval_inode(9, attributes_only=True)[:16] == Struct("=IiQ").pack(40, 2, 0)
    assert Struct("=Qqq").unpack(wire.inval_inode(9, attributes_only=True)[16:]) == (9, -1, 0)
    assert Struct("=Qqq").unpack(wire.inval_inode(9, attributes_only=False)[16:]) == (9, 0, 0)
    found = wire.inval_entry(1, b"name")
    assert found == Struct("=IiQQII").pack(37, 3, 0, 1, 4, 0) + b"name\0"


# ------------------------------------------------------------------------------ the beginning


@pytest.mark.parametrize(("offered", "agreed"), [(31, 31), (38, 38), (45, 38)])
def test_the_older_of_two_protocols_is_spoken(offered, agreed):
    found = wire.offer(memoryview(wire.INIT_IN.pack(7, offered, 131072, 0xFFFF_FFFF) + bytes(48)))
    numbers = wire.INIT_OUT.unpack(wire.accept(found, wire.MAX_PAGES, 1 << 20))
    assert numbers[:4] == (7, agreed, 131072, wire.MAX_PAGES)
    assert numbers[6] == wire.MAX_WRITE_BYTES
    assert numbers[8] == wire.MAX_WRITE_BYTES // 4096


def test_what_the_kernel_does_not_offer_is_not_used():
    found = wire.offer(memoryview(wire.INIT_IN.pack(7, 38, 4096, wire.ASYNC_READ)))
    numbers = wire.INIT_OUT.unpack(wire.accept(found, wire.ASYNC_READ | wire.MAX_PAGES, 1 << 20))
    assert numbers[2:4] == (4096, wire.ASYNC_READ)


def test_short_beginning_is_refused():
    refused(wire.offer, memoryview(bytes(15)))


# ------------------------------------------------------------------------- the kernel's header


def defined() -> dict[str, int]:
    """Constants of the header, those of its enumerations too."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    bits = re.findall(r"#define (\w+)\s+\(1(?:ULL)? << (\d+)\)", text)
    numbers = re.findall(r"^\s*(FUSE_\w+)\s*=\s*(\d+),", text, flags=re.MULTILINE)
    return {name: 1 << int(bit) for name, bit in bits} | {
        name: int(value) for name, value in numbers
    }


def structures() -> dict[str, str]:
    """Of the header: the struct codes of each structure's fields, with padding spelt out."""
    codes = {"uint64_t": "Q", "int64_t": "q", "uint32_t": "I", "int32_t": "i", "uint16_t": "H"}
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    found: dict[str, str] = {}
    for name, body in re.findall(r"struct (fuse_\w+) \{(.*?)\n\};", text, flags=re.DOTALL):
        made = ""
        for kind, _, times in re.findall(r"(?:struct )?(\w+)\s+(\w+)(?:\[(\d*)\])?;", body):
            if times != "" or kind != "char":
                made += (codes.get(kind) or found.get(kind, "?")) * int(times or 1)
        found[name] = made
    return found


@pytest.mark.needs_helper
def test_structures_are_as_large_as_in_the_kernels_header():
    """Where there is a compiler, there is the header."""
    known = structures()
    for name, layout in wire.STRUCTURES.items():
        if name in ("fuse_entry_out", "fuse_attr_out"):
            continue
        assert calcsize("=" + known[name]) == layout.size, name
        ours = re.sub(r"\d*x", "", layout.format.lstrip("="))
        spelt = re.sub(r"(\d+)(\w)", lambda match: match[2] * int(match[1]), ours)
        assert known[name].startswith(spelt) or "x" in layout.format, name


@pytest.mark.needs_helper
def test_numbers_are_those_of_the_kernels_header():
    known = defined()
    renamed = {
        "FATTR_KILL_PRIVILEGES": "FATTR_KILL_SUIDGID",
        "WRITE_KILL_PRIVILEGES": "FUSE_WRITE_KILL_SUIDGID",
        "OPEN_KILL_PRIVILEGES": "FUSE_OPEN_KILL_SUIDGID",
    }
    ours = {
        name: value
        for name, value in vars(wire).items()
        if name.isupper() and isinstance(value, int) and not name.startswith(("_", "M"))
        and not name.endswith("_BYTES")
    }  # fmt: skip
    ours |= {name: vars(wire)[name] for name in ("MKNOD", "MKDIR", "MAX_PAGES")}
    assert len(ours) > 50
    for name, value in ours.items():
        theirs = renamed.get(name) or (name if name.startswith("F") and name in known else "")
        assert known[theirs or f"FUSE_{name}"] == value, name


# ------------------------------------------------------------------------------------ fuzzing

TAKERS = [
    *(lambda body, layout=layout: wire.take(layout, body) for layout in wire.STRUCTURES.values()),
    wire.changes,
    wire.offer,
    wire.name,
    lambda body: wire.names(body, 8, 2),
    lambda body: wire.forgotten(wire.Request(wire.BATCH_FORGET, 1, 1, 0, 0, 0, body)),
    lambda body: wire.forgotten(wire.Request(wire.FORGET, 1, 1, 0, 0, 0, body)),
]


@given(st.binary(max_size=300), st.sampled_from(TAKERS))
def test_any_body_is_taken_or_refused(body, take):
    try:
        take(memoryview(body))
    except MalformedRequest as error:
        assert str(error)


def test_any_message_is_parsed_or_refused():
    rng = random.Random(5)
    parsed_count = 0
    for _ in range(20_000):
        message = bytearray(request(rng.randrange(60), rng.randbytes(rng.randrange(64))))
        for _ in range(rng.randrange(3)):
            message[rng.randrange(len(message))] = rng.randrange(256)
        try:
            parsed(
                bytes(message[: rng.randrange(len(message) + 1)] if rng.random() < 0.3 else message)
            )
            parsed_count += 1
        except MalformedRequest:
            pass
    assert 5_000 < parsed_count < 19_000
