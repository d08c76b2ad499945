"""Reads through the repository, which compares each block with its hash, against the hash alone."""

import pytest

from benchmarks import limits
from benchmarks.race import Round, race
from benchmarks.rivals.stores import Blkdev
from benchmarks.workloads import BLOCKS, Blocks
from ipld import cid as cids
from ipld.block import Block
from repo.backend_blkdev import BlkdevBackend


@pytest.mark.parametrize("workload", BLOCKS, ids=lambda workload: workload.name)
def test_verified_read(benchmark, bench_folder, results, workload):
    folder = bench_folder / f"verified-{workload.size_bytes}"
    folder.mkdir()
    backend = BlkdevBackend(Blkdev(folder).store)
    keys = [key for batch in Blocks("read", workload).batches() for key in put(backend, batch)]
    backend.commit()
    total = len(keys) * workload.size_bytes

    def read(*, verify: bool) -> Round:
        def prepare():
            if verify:
                backend.blocks.forget_verified()

            def run() -> float:
                view = backend.blocks.view
                for cid in keys:
                    with view(cid):
                        pass
                return total / 1e6

            return run

        return prepare

    contestants: dict[str, Round] = {
        "verified": read(verify=True),
        "again": read(verify=False),
        "limit: sha2-256": lambda: limits.sha256(workload.size_bytes, total),
    }
    for name, values in race(benchmark, "verified", contestants).items():
        results.add(f"read {workload.name}", name, "MB/s", values)
    backend.close()


def put(backend: BlkdevBackend, batch: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Store a batch as raw blocks; returns their CIDs."""
    named = [(cids.make(1, cids.RAW, key), data) for key, data in batch]
    backend.blocks.put_many(Block(cid, data) for cid, data in named)
    return [cid for cid, _ in named]
