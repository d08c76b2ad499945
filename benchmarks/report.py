"""`docs/benchmarks.md` and its charts, drawn from `benchmarks/results/*.json` alone.

python -m benchmarks.report
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import charts, goals, results

DOCS = Path(__file__).parents[1] / "docs"
OWN = ("blkdev", "ipfs-mfs", "verified")
LIMIT = "limit: "
RATES = ("/s", "MB/s")
"""Units of which more is better, so that a ratio says who is ahead."""
Row = dict[str, Any]

INTRODUCTION = (
    "Drawn by `benchmarks/report.py` from `benchmarks/results/`; `make bench` takes the figures "
    "again. All contestants of a line ran in turns on the same machine; a figure is the median of "
    "the rounds. Absolute figures are those of the machine: what can be compared is a line."
)

GOALS_NOTE = (
    "Each is a ratio of two figures of one run, or what a device counted; those that name a time "
    "or a size are in its unit. `the limit's own` is what a program reaches in that run which only "
    "hashes, writes, flushes or reads, as every store has to, and costs nothing itself: where that "
    "misses the goal, no store reaches it on this machine. What else is missed, and why: "
    "[decision 25](decisions/0025-goals-that-are-missed.md)."
)

TITLES = {
    "blocks": "Blocks: the engine against other stores",
    "read": "Verified reads: every block hashed",
    "add": "Importing files: one process, from its start to its end",
    "mount": "The mount",
    "start": "Starting a command",
    "table": "The table of inodes and entries",
    "growth": "Growth: the engine with more and more blocks",
    results.BOARD_SUITE: "On a small board",
}
CHARTS = {
    "benchmarks-throughput.svg": ("blocks", charts.draw_throughput, "Throughput by size of block"),
    "benchmarks-latency.svg": ("blocks", charts.draw_latencies, "Latency: median to p99"),
    "benchmarks-growth.svg": ("growth", charts.draw_growth, "Cost of an operation by blocks"),
}
"""Beside `benchmarks.svg`: the suite, what draws it, what it shows."""
NOTES = {
    "blocks": "Every put is durable when its batch ends: 128 blocks of 300 B or 4 KiB, 16 of "
    "256 KiB or 1 MiB, except where it says `no sync`. All have the same blocks, each on a loop "
    "device of its own, ours without a file system, the others with ext4. LevelDB, LMDB, SQLite "
    "and RocksDB are used from Python, the `go-ds-` stores, which are Kubo's, from Go. Flushes and "
    "bytes are what the kernel counted of each device. `hashed`: the blocks' hashes are computed "
    "in the time that is measured, elsewhere they are known before.",
    "read": "Through the repository. `verified` compares every block with its hash; `again` reads "
    "blocks that were compared before, without a copy.",
    "add": "Durable when the process ends, except where it says `no sync` or `-n`, which stores "
    "nothing. Kubo uses the same UnixFS profile and does not pin. `limit: new file` is a "
    "write of as many bytes to a new file on the same disk, past the page cache, and a flush.",
    "mount": "Each file system is on a loop device over a file on the same disk; gocryptfs on an "
    "ext4 of its own. `pinned`: the measuring program and the server share one CPU. `CPU`: time of "
    "the server per operation, or per MB where the unit is MB/s.",
    "start": "Milliseconds from the start of the process to its end.",
    "table": "In memory, without a device below.",
    "growth": "Records of 32 bytes. Memory is that of the process without pages of files.",
    results.BOARD_SUITE: "Taken by `make bench-boards` with little of everything, see the last "
    "line: memory includes the page cache, and the disks, which are outside, take their time for "
    "every byte and every flush. A board is to keep at least nine tenths of a ratio.",
}


def grouped(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by workload, in the order of the file."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["workload"]].append(row)
    return dict(groups)


def figure(value: float) -> str:
    """Three significant digits, thousands separated."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def own_median(rows: list[Row]) -> float | None:
    """Ours, where the workload is one in which we run against others."""
    return next((row["median"] for row in rows if row["contestant"] in OWN), None)


def best_rival(rows: list[Row]) -> float | None:
    """The fastest that stores data itself and gives the same promise."""
    rivals = [row["median"] for row in rows if is_rival(row["contestant"])]
    return max(rivals, default=None)


def is_rival(contestant: str) -> bool:
    """ext4 is the floor below all of us, and no sync is another promise."""
    return contestant not in ("again", "ext4") and not (
        contestant.startswith((*OWN, LIMIT)) or "no sync" in contestant
    )


def lowest_limit(rows: list[Row], unit: str) -> float | None:
    """What the machine allows, where it is in the workload's unit."""
    limits = [
        row["median"] for row in rows if row["contestant"].startswith(LIMIT) and row["unit"] == unit
    ]
    return min(limits, default=None)


def tables_of(rows: list[Row]) -> list[str]:
    """Markdown tables: one for all workloads that have the same contestants."""
    tables: dict[tuple[str, ...], list[list[Row]]] = defaultdict(list)
    for group in grouped(rows).values():
        tables[tuple(row["contestant"] for row in group)].append(group)
    lines: list[str] = []
    for names, groups in tables.items():
        lines += ["", *_table(list(names), groups)]
    return lines[1:]


def _table(names: list[str], groups: list[list[Row]]) -> list[str]:
    lines = [[*_facts(group, names)] for group in groups]
    heads = ["workload", "unit", *names, "ours / best rival", "ours / limit", "server's CPU"]
    used = [at for at in range(len(heads)) if any(line[at] for line in lines)]
    shown = [[cells[at] for at in used] for cells in (heads, ["---"] * len(heads), *lines)]
    return [f"| {' | '.join(cells)} |" for cells in shown]


def _facts(group: list[Row], names: list[str]) -> Iterator[str]:
    cells = {row["contestant"]: row for row in group}
    unit = next(row["unit"] for row in group if not row["contestant"].startswith(LIMIT))
    yield group[0]["workload"]
    yield unit
    for name in names:
        yield _cell(cells[name], unit)
    own = own_median(group) if unit in RATES else None
    for other in (best_rival(group), lowest_limit(group, unit)):
        yield "" if own is None or other is None else f"{own / other:.2f}"
    yield _costs(group)


def _cell(row: Row, unit: str) -> str:
    return figure(row["median"]) + ("" if row["unit"] == unit else f" {row['unit']}")


def _costs(group: list[Row]) -> str:
    costs = [
        f"{row['contestant']} {figure(row['server_cpu_us'])} µs"
        for row in group
        if row.get("server_cpu_us")
    ]
    return ", ".join(costs)


def machine_line(machine: dict[str, Any]) -> str:
    """What the figures were taken on."""
    extensions = "with" if machine["sha_extensions"] else "without"
    board = f"{machine['board']}; made of: " if "board" in machine else ""
    return (
        f"{board}{machine['cpus']} CPUs ({machine['cpu']}, {extensions} SHA extensions), "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}, Python {machine['python']}, "
        f"{machine['file_system']}; load before the run {machine['load_before']}; "
        f"{machine['taken']}, commit {machine['commit']}."
    )


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    lines = [
        "# Benchmarks",
        "",
        INTRODUCTION,
        "",
        "![Ours and others, relative to ext4 and to the limits](benchmarks.svg)",
    ]
    reached = goals.table(found, figure)
    if reached:
        lines += ["", "## Goals of the engine", "", GOALS_NOTE, "", *reached]
    for suite, document in found.items():
        lines += ["", f"## {TITLES.get(suite, suite)}", "", NOTES.get(suite, ""), ""]
        for name, (of, _, shows) in CHARTS.items():
            lines += [f"![{shows}]({name})", ""] if of == suite else []
        if suite == results.BOARD_SUITE:
            lines += [*goals.board_table(found, figure), ""]
        lines += tables_of(document["rows"])
        lines += ["", machine_line(document["machine"])]
    return "\n".join(lines) + "\n"


def bars(found: dict[str, dict[str, Any]]) -> list[tuple[str, list[tuple[str, dict[str, float]]]]]:
    """What the chart shows: per panel, labels with the value of each contestant."""
    panels = []
    mount = grouped([row for row in found.get("mount", {"rows": []})["rows"] if row.get("row")])
    relative = []
    for group in mount.values():
        medians = {row["contestant"]: row["median"] for row in group}
        if group[0]["placement"] == "unpinned" and "ext4" in medians:
            floor = medians.pop("ext4")
            shares = {name: value / floor for name, value in medians.items()}
            relative.append((group[0]["row"], shares))
    if relative:
        panels.append(("Mount, relative to ext4 = 1", relative))
    stores = []
    for suite in ("blocks", "add"):
        for workload, group in grouped(found.get(suite, {"rows": []})["rows"]).items():
            if not workload.startswith(("put", "add", "single")) or "no SHA" in workload:
                continue
            medians = {
                row["contestant"]: row["median"]
                for row in group
                if not row["contestant"].startswith(LIMIT)
            }
            own = next(value for name, value in medians.items() if name in OWN)
            stores.append((workload, {name: value / own for name, value in medians.items()}))
    if stores:
        panels.append(("Blocks and imports, relative to ours = 1", stores))
    return panels


def chart(panels: list[tuple[str, list[tuple[str, dict[str, float]]]]], path: Path) -> None:
    """Horizontal bars on a logarithmic scale, one panel above the other."""
    plot = charts.pyplot()
    heights = [sum(len(values) for _, values in lines) * 0.16 + 1 for _, lines in panels]
    drawing, axes = plot.subplots(
        len(panels), 1, figsize=(8, sum(heights)), height_ratios=heights, squeeze=False
    )
    colours = {
        name: f"C{number}"
        for number, name in enumerate(
            dict.fromkeys(name for _, lines in panels for _, values in lines for name in values)
        )
    }
    for (title, lines), (axis,) in zip(panels, axes, strict=True):
        position = 0.0
        ticks = []
        for _, values in lines:
            ticks.append(position + (len(values) - 1) / 2)
            for name, value in values.items():
                axis.barh(position, value, height=0.9, color=colours[name], label=name)
                position += 1
            position += 0.8
        axis.set_yticks(ticks, [label for label, _ in lines], fontsize=8)
        axis.set_xscale("log")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10)
        handles, labels = axis.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axis.legend(unique.values(), unique.keys(), fontsize=7)
    charts.save(drawing, path)


def suites() -> dict[str, dict[str, Any]]:
    """All results, in the order of the page."""
    paths = {path.stem: path for path in results.FOLDER.glob("*.json")}
    order = [name for name in TITLES if name in paths]
    order += sorted(paths.keys() - set(TITLES))
    return {name: results.load(paths[name]) for name in order}


def main() -> None:
    found = suites()
    (DOCS / "benchmarks.md").write_text(markdown(found))
    panels = bars(found)
    if panels:
        chart(panels, DOCS / "benchmarks.svg")
    for name, (suite, draw, _) in CHARTS.items():
        draw(found.get(suite, {"rows": []})["rows"], DOCS / name)


if __name__ == "__main__":
    main()
