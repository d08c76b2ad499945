"""gc frees all garbage and nothing else, also while others write."""

import random
import threading
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blkdev.device import RamDevice
from blkdev.store import Store
from ipld import cid as cids
from ipld import dagcbor, walk
from ipld import multihash as multihashes
from ipld.block import Block
from repo import leases
from repo.backend_memory import MemoryBackend
from repo.errors import BlockDamaged, BlockNotFound, LinksUnreadable, RefDamaged
from repo.refs import Ref
from repo.service import Repo
from tests.repo.dags import PROFILE, cbor, leaf, pb, present, tree


@pytest.fixture
def backend():
    return MemoryBackend()


def on_device() -> Repo:
    device = RamDevice(20 << 20)
    Store.format(device, segment_size_bytes=256 << 10)
    return Repo.open_blkdev(Store.open(device, verify_reads=False))


@pytest.fixture(params=[Repo.in_memory, on_device], ids=["memory", "device"])
def repo(request):
    repo = request.param()
    yield repo
    repo.close()


@pytest.fixture
def memory(backend):
    """For tests that reach behind the repository."""
    return Repo.in_memory(backend)


# ------------------------------------------------------------------------------ what is alive


def test_everything_below_a_ref_is_kept_and_all_else_is_freed(repo):
    root, alive = tree("alive")
    _, dead = tree("dead")
    repo.put_many(alive + dead)
    repo.refs.update({"root/main": Ref(links=(root.cid,))})
    report = repo.gc()
    assert all(present(repo, alive))
    assert not any(present(repo, dead))
    assert report.freed_count == len(dead)
    assert report.freed_bytes == sum(len(block.data) for block in dead)
    assert report.kept_count == len(alive)
    assert report.missing_count == 0


def test_block_shared_with_garbage_is_kept(repo):
    shared = leaf("shared")
    alive, dead = pb("alive", [shared]), pb("dead", [shared])
    repo.put_many([shared, alive, dead])
    repo.refs.update({"a": Ref(links=(alive.cid,))})
    assert repo.gc().freed_count == 1
    assert present(repo, [shared, alive, dead]) == [True, True, False]


def test_dropped_ref_frees_what_only_it_reached(repo):
    one, one_blocks = tree("one")
    two, two_blocks = tree("two")
    repo.put_many(one_blocks + two_blocks)
    repo.refs.update({"a": Ref(links=(one.cid,)), "b": Ref(links=(two.cid,))})
    assert repo.gc().freed_count == 0
    repo.refs.update({"a": None})
    assert repo.gc().freed_count == len(one_blocks)
    assert all(present(repo, two_blocks))


def test_direct_link_keeps_its_block_alone(repo):
    root, blocks = tree("direct")
    repo.put_many(blocks)
    repo.refs.update({"pin/x": Ref(direct=(root.cid,))})
    assert repo.gc().freed_count == len(blocks) - 1
    assert repo.has(root.cid)


def test_codec_decides_what_is_followed_even_for_equal_bytes(repo):
    """One block under two CIDs: as raw it has no links, as dag-cbor it has."""
    child = leaf("child")
    node = cbor("node", [child])
    as_raw = cids.make(1, cids.RAW, cids.multihash_of(node.cid))
    repo.put_many([child, node])
    repo.refs.update({"a": Ref(links=(as_raw,)), "b": Ref(links=(node.cid,))})
    assert repo.gc().freed_count == 0
    repo.refs.update({"b": None})
    assert repo.gc().freed_count == 1
    assert repo.has(node.cid)


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_visit_under_the_wrong_codec_does_not_hide_the_links(repo, names):
    child = leaf("child")
    node = cbor("node", [child])
    as_pb = cids.make(1, cids.DAG_PB, cids.multihash_of(node.cid))
    repo.put_many([child, node])
    repo.refs.update({names[0]: Ref(links=(as_pb,)), names[1]: Ref(links=(node.cid,))})
    assert repo.gc().freed_count == 0


def test_links_inside_an_identity_cid_are_followed(repo):
    child = leaf("child")
    data = dagcbor.encode([dagcbor.Link(child.cid)])
    inline = cids.make(1, cids.DAG_CBOR, multihashes.digest_multihash("identity", data))
    repo.put_many([child, leaf("dead")])
    repo.refs.update({"a": Ref(links=(inline,))})
    report = repo.gc()
    assert (report.freed_count, report.missing_count) == (1, 0)
    assert repo.has(child.cid)


def test_intact_block_that_is_no_node_is_a_leaf(repo):
    bad = Block.build(b"\xff\xff no dag-pb", cids.DAG_PB, PROFILE)
    repo.put_many([bad, leaf("dead")])
    repo.refs.update({"a": Ref(links=(bad.cid,))})
    assert repo.gc().freed_count == 1
    assert repo.has(bad.cid)


def test_leaves_are_not_read(repo):
    root, blocks = tree("alive")
    repo.put_many(blocks)
    repo.refs.update({"a": Ref(links=(root.cid,))})
    with mock.patch.object(repo.blocks, "view", wraps=repo.blocks.view) as view:
        repo.gc()
    read = {call.args[0] for call in view.call_args_list}
    assert read == {b.cid for b in blocks if cids.codec_of(b.cid) != cids.RAW}


def test_each_node_is_read_once_however_often_it_is_linked(repo):
    bottom = cbor("bottom")
    level = bottom
    blocks = [bottom]
    for at in range(40):
        level = cbor(f"{at}", [level, level, level])
        blocks.append(level)
    repo.put_many(blocks)
    repo.refs.update({"a": Ref(links=(level.cid,))})
    with mock.patch.object(repo.blocks, "view", wraps=repo.blocks.view) as view:
        assert repo.gc().freed_count == 0
    assert view.call_count == len(blocks)


def test_deep_chain_does_not_exhaust_the_stack(repo):
    block = leaf("end")
    blocks = [block]
    for at in range(5000):
        block = cbor(str(at), [block])
        blocks.append(block)
    repo.put_many(blocks)
    repo.refs.update({"a": Ref(links=(block.cid,))})
    assert repo.gc().freed_count == 0


@given(data=st.data())
def test_gc_agrees_with_a_plain_search_of_any_dag(data):
    repo = Repo.in_memory()
    blocks: list[Block] = []
    for at in range(data.draw(st.integers(1, 25))):
        make = data.draw(st.sampled_from([cbor, pb]))
        children = data.draw(st.lists(st.sampled_from(blocks), max_size=4)) if blocks else []
        blocks.append(make(str(at), children))
    absent = data.draw(st.sets(st.sampled_from(blocks), max_size=3))
    repo.put_many(block for block in blocks if block not in absent)
    roots = data.draw(st.lists(st.sampled_from(blocks), max_size=3))
    direct = data.draw(st.lists(st.sampled_from(blocks), max_size=2))
    repo.refs.update(
        {"a": Ref(links=tuple(b.cid for b in roots), direct=tuple(b.cid for b in direct))}
    )
    links = {block.cid: walk.links_of(block.cid, block.data) for block in blocks}
    alive: set[bytes] = set()
    pending = [block.cid for block in roots]
    gone = {block.cid for block in absent}
    while pending:
        cid = pending.pop()
        if cid not in alive:
            alive.add(cid)
            pending.extend([] if cid in gone else links[cid])
    alive.update(block.cid for block in direct)
    dry = repo.gc(dry_run=True)
    report = repo.gc()
    assert {cids.multihash_of(cid) for cid in alive - gone} == set(repo.blocks.keys())
    assert set(report.missing) == alive & gone
    assert (dry.freed_count, dry.freed_bytes, dry.kept_count) == (
        report.freed_count,
        report.freed_bytes,
        report.kept_count,
    )


# ------------------------------------------------------------------------- faults and limits


def test_missing_block_is_reported_and_does_not_stop_gc(repo):
    child = leaf("child")
    lost = cbor("lost", [child])
    root = cbor("root", [lost, leaf("here")])
    repo.put_many([child, root, leaf("here"), leaf("dead")])
    repo.refs.update({"a": Ref(links=(root.cid,))})
    report = repo.gc()
    assert (report.missing_count, report.missing) == (1, (lost.cid,))
    assert present(repo, [root, leaf("here"), leaf("dead")]) == [True, True, False]
    assert not repo.has(child.cid), "nothing is known below a block that is missing"


def test_list_of_missing_blocks_is_bounded_but_counted(repo):
    root = cbor("root", [leaf(str(n)) for n in range(500)])
    repo.put(root)
    repo.refs.update({"a": Ref(links=(root.cid,))})
    report = repo.gc()
    assert report.missing_count == 500
    assert len(report.missing) == 100


def test_damaged_node_stops_gc_before_it_frees_anything(memory, backend):
    root, alive = tree("alive")
    dead = leaf("dead")
    memory.put_many([*alive, dead])
    memory.refs.update({"a": Ref(links=(root.cid,))})
    backend.blocks.damage(root.cid, b"rotten")
    with pytest.raises(BlockDamaged):
        memory.gc()
    assert all(present(memory, [*alive, dead]))


def test_damaged_leaf_does_not_matter_to_gc(memory, backend):
    root, alive = tree("alive")
    memory.put_many([*alive, leaf("dead")])
    memory.refs.update({"a": Ref(links=(root.cid,))})
    backend.blocks.damage(alive[0].cid, b"rotten")
    assert memory.gc().freed_count == 1


def test_link_of_an_unknown_kind_stops_gc(repo):
    """Its siblings cannot be told either, so nothing below the block may be called garbage."""
    child = leaf("child")
    odd = b"\x01\x55\xd5\x01\x14" + bytes(20)
    raw_link = b"\xd8\x2a" + bytes([0x40 + 24, len(odd) + 1]) + b"\0" + odd
    good_link = dagcbor.encode(dagcbor.Link(child.cid))
    node = Block.build(b"\x82" + good_link + raw_link, cids.DAG_CBOR, PROFILE)
    repo.put_many([child, node])
    repo.refs.update({"a": Ref(links=(node.cid,))})
    with pytest.raises(LinksUnreadable, match="drop the pin or root"):
        repo.gc()
    assert repo.has(child.cid)


def test_damaged_ref_stops_gc(memory, backend):
    memory.put(leaf("dead"))
    backend.names.set_names({b"root/bad": b"\xff"})
    with pytest.raises(RefDamaged):
        memory.gc()
    assert memory.has(leaf("dead").cid)


def test_gc_works_again_after_it_was_stopped(memory, backend):
    memory.put(leaf("dead"))
    backend.names.set_names({b"root/bad": b"\xff"})
    with pytest.raises(RefDamaged):
        memory.gc()
    backend.names.set_names({b"root/bad": None})
    assert memory.gc().freed_count == 1
    assert not memory.leases.is_any_open()


def test_fingerprints_that_collide_keep_garbage_and_everything_alive(repo):
    root, alive = tree("alive")
    _, dead = tree("dead")
    repo.put_many(alive + dead)
    repo.refs.update({"a": Ref(links=(root.cid,))})
    with (
        mock.patch("repo.gc.fingerprint", lambda multihash: multihash[-1:]),
        mock.patch.object(leases, "fingerprint", lambda multihash: multihash[-1:]),
    ):
        assert 0 < repo.gc().freed_count < len(dead)
    assert all(present(repo, alive))


def test_stopped_gc_leaves_nothing_behind(memory, backend):
    backend.names.set_names({b"root/bad": b"\xff"})
    with pytest.raises(RefDamaged):
        memory.gc()
    memory.leases.announce([leaf("x").cid])
    assert memory.leases.take_announced() == []


def test_dry_run_frees_nothing_and_counts_the_same(repo):
    root, alive = tree("alive")
    _, dead = tree("dead")
    repo.put_many(alive + dead)
    repo.refs.update({"a": Ref(links=(root.cid,))})
    dry = repo.gc(dry_run=True)
    assert dry.dry_run
    assert all(present(repo, dead))
    real = repo.gc()
    assert real._replace(dry_run=True) == dry


def test_progress_is_reported_for_both_phases(repo):
    repo.put_many(leaf(str(n)) for n in range(3000))
    repo.refs.update({"a": Ref(links=tuple(leaf(str(n)).cid for n in range(1100)))})
    seen: list[tuple[str, int, int | None]] = []
    repo.gc(progress=lambda *step: seen.append(step))
    assert {phase for phase, _, _ in seen} == {"mark", "sweep"}
    assert seen[-1] == ("sweep", 3000, 3000)


def test_what_gc_freed_stays_freed_after_a_crash(memory, backend):
    memory.put_many([leaf("alive"), leaf("dead")])
    memory.refs.update({"a": Ref(links=(leaf("alive").cid,))})
    memory.gc()
    backend.crash()
    assert present(memory, [leaf("alive"), leaf("dead")]) == [True, False]


# ------------------------------------------------------------------------------ beside writers


def test_blocks_written_under_an_open_lease_are_kept(repo):
    with repo.lease():
        repo.put(leaf("new"))
        assert repo.gc().freed_count == 0
    assert repo.gc().freed_count == 1


def test_block_stored_again_under_a_lease_is_kept(repo):
    repo.put(leaf("old"))
    with repo.lease():
        repo.put(leaf("old"))
        assert repo.gc().freed_count == 0
    assert repo.gc().freed_count == 1


def test_block_asked_for_under_a_lease_is_kept(repo):
    repo.put_many([leaf("asked"), leaf("not asked")])
    with repo.lease():
        assert repo.has(leaf("asked").cid)
        assert not repo.has(leaf("absent").cid)
        assert repo.gc().freed_count == 1
    assert repo.gc().freed_count == 1


def test_lease_protects_only_from_its_opening_on(repo):
    repo.put(leaf("before"))
    with repo.lease():
        assert repo.gc().freed_count == 1


def test_older_lease_is_protected_by_touches_after_a_newer_one_opened_and_closed(repo):
    repo.put_many([leaf("one"), leaf("two"), leaf("three")])
    outer = repo.lease()
    repo.put(leaf("one"))
    inner = repo.lease()
    repo.put(leaf("two"))
    inner.close()
    repo.put(leaf("three"))
    assert repo.gc().freed_count == 0
    outer.close()
    assert repo.gc().freed_count == 3


def test_newer_lease_outlives_an_older_one(repo):
    repo.put_many([leaf("one"), leaf("two")])
    outer = repo.lease()
    repo.put(leaf("one"))
    inner = repo.lease()
    repo.put(leaf("two"))
    outer.close()
    outer.close()
    assert repo.gc().freed_count == 1
    assert repo.has(leaf("two").cid)
    inner.close()
    assert repo.leases._touched == {}


def test_kept_cid_protects_all_that_is_below_it(repo):
    root, blocks = tree("kept")
    repo.put_many(blocks)
    with repo.lease() as lease:
        lease.keep([root.cid])
        assert repo.gc().freed_count == 0
    assert repo.gc().freed_count == len(blocks)


def during(repo: Repo, phase: str, act):
    """Run gc and call `act` once, in the middle of that phase."""
    done: list[bool] = []

    def progress(now, count, total):
        if now == phase and not done:
            done.append(True)
            act()

    report = repo.gc(progress=progress)
    assert done
    return report


@pytest.fixture
def busy(repo):
    """A repository whose mark and sweep take several steps."""
    repo.put_many(leaf(str(n)) for n in range(3000))
    repo.refs.update({"many": Ref(links=tuple(leaf(str(n)).cid for n in range(1200)))})
    return repo


@pytest.mark.parametrize("phase", ["mark", "sweep"])
def test_ref_set_while_gc_runs_is_followed(busy, phase):
    root, blocks = tree("late")
    busy.put_many(blocks)
    during(busy, phase, lambda: busy.refs.update({"late": Ref(links=(root.cid,))}))
    assert all(present(busy, blocks))


@pytest.mark.parametrize("phase", ["mark", "sweep"])
def test_block_written_while_gc_runs_is_kept(busy, phase):
    report = during(busy, phase, lambda: busy.put(leaf("new")))
    assert busy.has(leaf("new").cid)
    garbage = [leaf(str(n)).data for n in range(1200, 3000)]
    assert (report.freed_count, report.freed_bytes) == (1800, sum(map(len, garbage)))


def test_block_stored_again_while_gc_marks_is_kept(busy):
    during(busy, "mark", lambda: busy.put(leaf("2999")))
    assert busy.has(leaf("2999").cid)
    assert not busy.has(leaf("2998").cid)


def test_lease_opened_and_kept_while_gc_runs_is_followed(busy):
    root, blocks = tree("late")
    busy.put_many(blocks)
    lease = busy.lease()
    during(busy, "sweep", lambda: lease.keep([root.cid]))
    assert all(present(busy, blocks))
    lease.close()


def test_ref_dropped_while_gc_runs_frees_at_the_next(busy):
    during(busy, "mark", lambda: busy.refs.update({"many": None}))
    assert busy.gc().freed_count == 1200


def complete(repo: Repo, root: bytes) -> bool:
    try:
        for _ in walk.walk([root], repo.get):
            pass
    except BlockNotFound:
        return False
    return True


def test_writers_beside_a_running_gc_never_lose_a_block(repo):
    """Four writers build trees out of a small set of blocks, so that most are stored again while
    they look like garbage; gc runs without a pause."""
    stop = threading.Event()
    broken: list[object] = []

    def write(seed: int) -> None:
        rng = random.Random(seed)
        for round_ in range(60):
            with repo.lease():
                root, blocks = tree(f"t{rng.randrange(6)}", depth=2)
                for block in blocks:
                    if rng.random() < 0.3 and repo.has(block.cid):
                        continue
                    repo.put(block)
                repo.refs.update({f"r{seed}": Ref(links=(root.cid,))})
            if not complete(repo, root.cid):
                broken.append((seed, round_))
            if rng.random() < 0.5:
                repo.refs.update({f"r{seed}": None})

    def collect() -> None:
        while not stop.is_set():
            repo.gc()

    def guarded(work, *args) -> None:
        try:
            work(*args)
        except BaseException as error:
            broken.append(error)

    writers = [threading.Thread(target=guarded, args=(write, seed)) for seed in range(4)]
    collector = threading.Thread(target=guarded, args=(collect,))
    for thread in (*writers, collector):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    collector.join()
    assert broken == []
    repo.gc()
    assert all(complete(repo, cid) for _, ref in repo.refs.list() for cid in ref.links)
    repo.refs.update({name: None for name, _ in repo.refs.list()})
    repo.gc()
    assert repo.blocks.stats().count == 0
