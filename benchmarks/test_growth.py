"""Cost growth of the engine: what one operation, opening and memory cost with 10,000 blocks and
with a hundred times as many. `IPFS_MFS_BENCH_BLOCKS` says up to how many.
"""

import os

from benchmarks import engine, growth


def test_growth(bench_folder, results):
    most = int(os.environ.get("IPFS_MFS_BENCH_BLOCKS") or growth.SIZES_DEFAULT[-1])
    path = engine.new_store(bench_folder / "growth.blk")
    before = 0
    for count in growth.SIZES:
        if count > most:
            break
        growth.ask("grow", path, before, count)
        before = count
        seen = growth.ask("look", path, count)
        column = f"{count:,} blocks"
        for name in (*growth.OPERATIONS, growth.LIMIT):
            results.add(name, column, "µs", seen["us"][name])
        results.add("open, closed in order", column, "ms", seen["open_ms"])
        results.add("index", column, "B per block", [seen["index_bytes"] / count])
        results.add("memory", column, "MB", [seen["memory_bytes"] / 1e6])
    path.unlink()
