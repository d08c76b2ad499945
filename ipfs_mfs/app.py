"""What every command gets: its configuration, its way to the node, and how to print.

Standard output carries only what was asked for (lines or JSON); notes and progress go to standard
error, so that `ipfs-mfs add -Q x | …` stays usable.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ipfs_mfs import config as configuration

if TYPE_CHECKING:
    from ipfs_mfs.api import CareApi, NodeApi
    from ipfs_mfs.progress import Meter


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """The three output switches that every command has."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def record(self, value: Any, text: str) -> None:
        """One result: `text` for people, or `value` (dataclass or mapping) as one JSON line."""
        self.line(json.dumps(jsonable(value)) if self.as_json else text)

    def line(self, text: str) -> None:
        """One line of standard output; surrogates become the bytes that they stand for."""
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(text) + b"\n")
        sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        """Something worth knowing that nobody parses."""
        if not self.quiet and not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def meter(self, label: str, total: int | None = None, *, unit: str = "bytes") -> "Meter":
        """Progress of long work: a bar on a terminal, else a line every few seconds."""
        from ipfs_mfs.progress import Meter

        return Meter(label, total, unit=unit, silent=self.quiet or self.as_json)


class App:
    """One running command. The node is opened at the first use and closed at the end."""

    def __init__(self, output: Output, *, store: str | None = None) -> None:
        self.output = output
        self._store_flag = store
        self._config: configuration.Config | None = None
        self._node: NodeApi | None = None
        self._closing: Callable[[], None] = lambda: None

    def __enter__(self) -> "App":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._node is not None:
            self._node.close()
        self._closing()

    @property
    def config(self) -> configuration.Config:
        """Raises BadSetting."""
        if self._config is None:
            store = Path(self._store_flag).expanduser().absolute() if self._store_flag else None
            self._config = configuration.with_flags(configuration.load(), store=store)
        return self._config

    @property
    def node(self) -> "NodeApi":
        """The running daemon, or the store opened by this process. Raises StoreMissing, Busy…"""
        if self._node is None:
            from ipfs_mfs.connect import connect

            self._node = connect(self.config)
        return self._node

    def care(self) -> "CareApi":
        """As `node`, but also for a store that is too damaged to be opened in full."""
        from ipfs_mfs.connect import connect_for_care

        patient = connect_for_care(self.config)
        self._closing = patient.close
        return patient


def name_text(name: bytes) -> str:
    """A file name for a line of output. On a terminal, control characters become '?', as with
    `ls`: a name in somebody else's DAG must not be able to drive the terminal."""
    text = os.fsdecode(name)
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def time_text(time_ns: int) -> str:
    """Local time to the second, sortable."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 10**9))


def jsonable(value: Any) -> Any:
    """JSON's view of a result. File names that are not UTF-8 keep their bytes by surrogates,
    as everywhere in Python (`os.fsdecode`), which JSON writes as \\udcXX escapes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
