"""Results as JSON: one file per suite, one row per contestant and workload.

    {"machine": {…}, "rows": [{"workload", "contestant", "unit", "values", "median", …}]}

`values` are the rounds in the order they were run. A run replaces the rows of the workloads that
it measured and keeps the others, so that one benchmark can be repeated alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).parent / "results"
BOARD_SUITE = "boards"
"""What other suites measure, on a small board."""


class Results:
    """The file of one suite."""

    def __init__(self, suite: str, machine: dict[str, Any], folder: Path = FOLDER) -> None:
        self.path = folder / f"{suite}.json"
        self._machine = machine
        self._rows: list[dict[str, Any]] = []

    def add(
        self, workload: str, contestant: str, unit: str, values: list[float], **more: Any
    ) -> None:
        """One contestant's rounds of one workload."""
        row = {
            "workload": workload,
            "contestant": contestant,
            "unit": unit,
            "median": significant(median(values)),
            "values": [significant(value) for value in values],
            **more,
        }
        self._rows.append(row)
        rate = f"{row['median']:,.4g} {unit}"
        print(f"\n  {workload:<28} {contestant:<16} {rate:>18}", end="", flush=True)

    def write(self) -> None:
        """Merge with what the file has already."""
        measured = {row["workload"] for row in self._rows}
        kept = [row for row in load(self.path)["rows"] if row["workload"] not in measured]
        if self._rows:
            document = {"machine": self._machine, "rows": kept + self._rows}
            self.path.parent.mkdir(exist_ok=True)
            self.path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> dict[str, Any]:
    """A result file, or an empty one where there is none."""
    if not path.exists():
        return {"machine": {}, "rows": []}
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def significant(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
