"""What `add` can be told, and which import profile that means.

The flags are Kubo's and mean what they mean there: the same flags give the same CID. Kubo's flags
change its own implicit parameters (`unixfs-v0-2015`), so as soon as one of them is given without
`--profile`, that is the profile they change; `--cid-version 1` alone is therefore CIDv1 with raw
leaves, chunks of 256 KiB and 174 links. Without any of them the profile is `unixfs-v1-2025`.
Metadata, the HAMT threshold and its estimate are no flags of Kubo or none about blocks: they change
whatever profile the other flags give.
"""

import os
import stat
from dataclasses import dataclass

from ipfs_mfs.errors import BadOption
from ipld import chunk
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, Profile, by_name
from ipld.unixfs import MODE_MASK, Attributes

_NANOSECONDS_PER_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class AddOptions:
    """The flags of `add`; None means not given."""

    profile: str | None = None
    cid_version: int | None = None
    raw_leaves: bool | None = None
    chunker: str | None = None
    hash_function: str | None = None
    trickle: bool | None = None
    max_file_links: int | None = None
    max_directory_links: int | None = None
    max_hamt_fanout: int | None = None
    hamt_threshold_bytes: int | None = None
    hamt_size_estimation: str | None = None
    inline: bool | None = None
    inline_limit_bytes: int | None = None
    preserve_mode: bool = False
    preserve_mtime: bool = False
    mode: int | None = None
    mtime_s: int | None = None
    mtime_ns: int | None = None
    """The fraction of `mtime_s`, in nanoseconds."""
    recursive: bool = False
    wrap: bool = False
    hidden: bool = False
    dereference_symlinks: bool = False
    empty_dirs: bool = True

    @property
    def has_metadata(self) -> bool:
        """Whether nodes get UnixFS 1.5 fields; a mode or mtime of 0 counts as not given."""
        return bool(self.preserve_mode or self.preserve_mtime or self.mode or self.mtime_s)

    def attributes(self, status: os.stat_result | None) -> Attributes | None:
        """The metadata of one node; `status` is None for standard input and the wrapping directory.

        A mode that is given is cut to the nine permission bits, as Kubo does.
        """
        mode: int | None = None
        mtime: tuple[int, int] | None = None
        if self.mode:
            mode = self.mode & 0o777
        elif self.preserve_mode and status and not stat.S_ISLNK(status.st_mode):
            mode = status.st_mode & MODE_MASK
        if self.mtime_s:
            mtime = self.mtime_s, self.mtime_ns or 0
        elif self.preserve_mtime and status:
            mtime = divmod(status.st_mtime_ns, _NANOSECONDS_PER_SECOND)
        return Attributes(mode, mtime) if mode or mtime else None


def profile_of(options: AddOptions) -> Profile:
    """The profile that the flags mean. Raises BadOption, InvalidParameter, UnsupportedHash."""
    _check(options)
    base = _base_profile(options)
    fields: dict[str, object] = {}
    if options.hash_function is not None:
        fields["hash_function"] = options.hash_function.lower()
        if fields["hash_function"] != "sha2-256":
            fields["cid_version"] = 1
    if options.cid_version is not None:
        fields["cid_version"] = options.cid_version
    if fields.get("cid_version", base.cid_version) != base.cid_version:
        fields["raw_leaves"] = fields["cid_version"] == 1
    if options.raw_leaves is not None:
        fields["raw_leaves"] = options.raw_leaves
    if options.has_metadata:
        fields["raw_leaves"] = False
    if options.chunker is not None:
        fields["chunk_size_bytes"] = chunk.parse(options.chunker)
    if options.trickle is not None:
        fields["layout"] = "trickle" if options.trickle else "balanced"
    fields |= {
        field: value
        for field, value in (
            ("max_file_links", options.max_file_links),
            ("max_directory_links", options.max_directory_links),
            ("hamt_fanout", options.max_hamt_fanout),
            ("hamt_threshold_bytes", options.hamt_threshold_bytes),
            ("hamt_size_estimation", options.hamt_size_estimation),
            ("inline", options.inline),
            ("inline_limit_bytes", options.inline_limit_bytes),
        )
        if value is not None
    }
    return base.with_options(**fields)


def _base_profile(options: AddOptions) -> Profile:
    if options.profile is not None:
        return by_name(options.profile)
    kubo_flags = (
        options.cid_version,
        options.raw_leaves,
        options.chunker,
        options.hash_function,
        options.trickle,
        options.max_file_links,
        options.max_directory_links,
        options.max_hamt_fanout,
        options.inline,
    )
    return UNIXFS_V1_2025 if all(flag is None for flag in kubo_flags) else UNIXFS_V0_2015


def _check(options: AddOptions) -> None:
    if options.has_metadata and options.raw_leaves:
        raise BadOption(
            "raw leaves have no place for a mode or a modification time", "drop --raw-leaves"
        )
    if options.mtime_ns and not options.mtime_s:
        raise BadOption("--mtime-nsecs is the fraction of --mtime", "give --mtime, too")
    if not 0 <= (options.mtime_ns or 0) < _NANOSECONDS_PER_SECOND:
        raise BadOption(f"--mtime-nsecs {options.mtime_ns} is out of range", "use 0 to 999999999")
