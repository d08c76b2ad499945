"""Charts of the engine's figures: throughput, latency percentiles, growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
LIMIT = "limit: "


def pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    # Ids in the file are made from this and not at random, so that equal results give equal bytes.
    mpl.rcParams["svg.hashsalt"] = "ipfs-mfs"
    from matplotlib import pyplot

    return pyplot


def save(drawing: Any, path: Path) -> None:
    drawing.tight_layout()
    drawing.savefig(path, metadata={"Date": None})


def megabytes(row: Row, size_bytes: int) -> float:
    """A rate of blocks, or of bytes, in MB/s."""
    value: float = row["median"]
    return value if row["unit"] == "MB/s" else value * size_bytes / 1e6


SIZES = {"300 B": 300, "4 KiB": 4 << 10, "256 KiB": 256 << 10, "1 MiB": 1 << 20}


def throughput(rows: Sequence[Row]) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """MB/s: for put, get and delete, by size of block, of every contestant and limit."""
    panels: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for operation in ("put", "get", "delete"):
        groups = []
        for size, size_bytes in SIZES.items():
            found = {
                row["contestant"]: megabytes(row, size_bytes)
                for row in rows
                if row["workload"] == f"{operation} {size}"
            }
            if found:
                groups.append((size, found))
        if groups:
            panels[operation] = groups
    return panels


def draw_throughput(rows: Sequence[Row], path: Path) -> None:
    """Bars, one panel for each operation; no file where nothing was measured."""
    panels = throughput(rows)
    if not panels:
        return
    names = list(dict.fromkeys(n for groups in panels.values() for _, of in groups for n in of))
    plot = pyplot()
    drawing, axes = plot.subplots(len(panels), 1, figsize=(9, 3 * len(panels)), squeeze=False)
    for (operation, groups), (axis,) in zip(panels.items(), axes, strict=True):
        width = 0.85 / len(names)
        for number, name in enumerate(names):
            places = [
                at + (number - len(names) / 2) * width
                for at, (_, of) in enumerate(groups)
                if name in of
            ]
            heights = [of[name] for _, of in groups if name in of]
            axis.bar(places, heights, width, label=name, color=_colour(name, number))
        axis.set_xticks(range(len(groups)), [size for size, _ in groups], fontsize=8)
        axis.set_yscale("log")
        axis.set_ylabel("MB/s", fontsize=8)
        axis.set_title(f"{operation}: throughput by size of block", fontsize=10)
    axes[0][0].legend(fontsize=7, ncols=5, loc="lower left", bbox_to_anchor=(0, 1.12))
    save(drawing, path)
    plot.close(drawing)


def latencies(rows: Sequence[Row]) -> dict[str, dict[str, tuple[float, float]]]:
    """(p50, p99) in milliseconds, by workload and contestant."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for row in rows:
        if "p50_ms" in row:
            of = found.setdefault(row["workload"], {})
            of[row["contestant"]] = (row["p50_ms"], row["p99_ms"])
    return found


def draw_latencies(rows: Sequence[Row], path: Path) -> None:
    """A line from the median to the 99th percentile for each contestant."""
    panels = latencies(rows)
    if not panels:
        return
    plot = pyplot()
    heights = [len(of) * 0.16 + 0.7 for of in panels.values()]
    drawing, axes = plot.subplots(
        len(panels), 1, figsize=(8, sum(heights)), height_ratios=heights, squeeze=False
    )
    for (workload, of), (axis,) in zip(panels.items(), axes, strict=True):
        for at, (name, (median, high)) in enumerate(of.items()):
            axis.plot([median, high], [at, at], color=_colour(name, 1), linewidth=2)
            axis.plot([median], [at], "o", color=_colour(name, 1), markersize=4)
        axis.set_yticks(range(len(of)), list(of), fontsize=7)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter("")
        axis.set_title(f"{workload}: median to 99th percentile, ms", fontsize=9)
    save(drawing, path)
    plot.close(drawing)


def growth(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """Microseconds of each operation by number of blocks."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["unit"] == "µs":
            count = int(row["contestant"].split()[0].replace(",", ""))
            found.setdefault(row["workload"], []).append((count, row["median"]))
    return {name: sorted(points) for name, points in found.items()}


def draw_growth(rows: Sequence[Row], path: Path) -> None:
    """A curve for each operation: flat is good."""
    curves = growth(rows)
    if not curves:
        return
    plot = pyplot()
    drawing, axis = plot.subplots(figsize=(8, 4))
    for name, points in curves.items():
        axis.plot(*zip(*points, strict=True), "o-", label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("blocks in the store", fontsize=8)
    axis.set_ylabel("µs per operation", fontsize=8)
    axis.set_title("What an operation costs as the store grows", fontsize=10)
    axis.legend(fontsize=7)
    save(drawing, path)
    plot.close(drawing)


_COLOURS = [f"C{number}" for number in range(10)] + ["gold", "navy", "lime", "teal"]


def _colour(name: str, number: int) -> str:
    """Ours stands out, limits step back."""
    if name == "blkdev":
        return "black"
    if name.startswith(LIMIT):
        return "lightgrey"
    return _COLOURS[number % len(_COLOURS)]
