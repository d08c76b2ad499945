"""Progress of long work on standard error: a bar with rate and time left on a terminal, else a
plain line every few seconds. Nothing is printed for work that ends within the first second.

`rich` takes 50 ms to import, so it is imported when the first bar appears.
"""

import sys
import time
from types import TracebackType
from typing import Any

from ipfs_mfs import interrupt
from ipfs_mfs.sizes import duration_text, size_text

FIRST_OUTPUT_S = 1.0
PLAIN_INTERVAL_S = 5.0


class Meter:
    """Context manager. `advance` and `set` are cheap enough to be called per block, and may be
    called from one thread at a time."""

    def __init__(self, label: str, total: int | None, *, unit: str, silent: bool) -> None:
        self._label = label
        self._total = total
        self._unit = unit
        self._silent = silent
        self._done = 0
        self._started_s = time.monotonic()
        self._next_output_s = self._started_s + FIRST_OUTPUT_S
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
            self._bar.stop()

    def advance(self, amount: int) -> None:
        self.set(self._done + amount)

    def set(self, done: int, total: int | None = None) -> None:
        """`done` units of `total`, or of the total known so far. Raises a KeyboardInterrupt that
        is due: between two reports, long work may never be where it can be raised."""
        interrupt.check()
        self._done = done
        self._total = total or self._total
        if self._silent:
            return
        now_s = time.monotonic()
        if now_s < self._next_output_s:
            return
        if sys.stderr.isatty():
            self._next_output_s = now_s + 0.1
            self._draw()
        else:
            self._next_output_s = now_s + PLAIN_INTERVAL_S
            print(self.line(now_s), file=sys.stderr, flush=True)

    def line(self, now_s: float) -> str:
        """`add: 512.0 MiB of 1.0 GiB, 50 %, 420.1 MiB/s, 00:01 left`."""
        elapsed_s = max(now_s - self._started_s, 1e-6)
        rate = self._done / elapsed_s
        parts = [f"{self._label}: {self._amount(self._done)}"]
        if self._total:
            parts[0] += f" of {self._amount(self._total)}"
            parts.append(f"{100 * self._done // self._total} %")
        parts.append(f"{self._amount(rate)}/s")
        if self._total and rate > 0:
            parts.append(f"{duration_text((self._total - self._done) / rate)} left")
        return ", ".join(parts)

    def _amount(self, value: float) -> str:
        return size_text(value) if self._unit == "bytes" else f"{value:,.0f} {self._unit}"

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = _rich_bar(self._unit)
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total)
        self._bar.update(self._task, completed=self._done, total=self._total)


def _rich_bar(unit: str) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amounts = (
        [DownloadColumn(binary_units=True), TransferSpeedColumn()]
        if unit == "bytes"
        else [MofNCompleteColumn(), TextColumn(unit)]
    )
    columns = [TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn()]
    return Progress(*columns, console=Console(stderr=True), transient=True)
