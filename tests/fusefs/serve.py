"""A process that serves a mount, for tests that need a real kernel on the other side.

    python -m tests.fusefs.serve MOUNTPOINT OPTIONS STORE

STORE is the path of a store, made if it is missing, or `fake` for trees that misbehave on request.
It says `ready` on stdout when the mount answers. Each line on stdin is a Python expression, or a
statement, about `mount`, `roots`, `repo` and `store`; the answer is one line: `= ` and the repr, or
`! ` and the exception. SIGTERM and the end of stdin unmount. The last line is `ended` and what
`run` raised, if anything.

A process of its own, because a program that touches its own mount waits for itself, and because
only a process can be killed.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from fusefs.errors import FusefsError, NotMounted
from fusefs.mount import Mount
from fusefs.options import MountOptions
from tests.fusefs.fake_tree import FakeRoots

STORE_SIZE_BYTES = 1 << 30
_saying = threading.Lock()


def open_roots(place: str) -> dict[str, Any]:
    """What the expressions of a test can name."""
    if place == "fake":
        return {"roots": FakeRoots("main", "other")}
    from blkdev.device import open_device
    from blkdev.store import Store
    from ipld.profile import UNIXFS_V1_2025
    from mfs.roots import Roots
    from repo.service import Repo

    path = Path(place)
    new = not path.exists()
    if new:
        with path.open("wb") as file:
            file.truncate(STORE_SIZE_BYTES)
        device = open_device(path)
        Store.format(device)
        device.close()
    store = Store.open(open_device(path), verify_reads=False)  # blocks are checked by hash
    repo = Repo.open_blkdev(store)
    roots = Roots(repo)
    if new:
        roots.create("main", UNIXFS_V1_2025)
    return {"store": store, "repo": repo, "roots": roots}


def evaluate(line: str, names: dict[str, Any]) -> str:
    """The answer to one line of a test."""
    try:
        try:
            tree = ast.parse(line, mode="eval")
        except SyntaxError:
            exec(line, names)  # the test's own code
            return "= None"
        return f"= {eval(compile(tree, 'test', 'eval'), names)!r}"  # as above
    except Exception as error:
        return f"! {type(error).__name__}: {error}"


def say(line: str) -> None:
    """One line: threads that print at the same time mix theirs, as its end is another write."""
    with _saying:
        print(line, flush=True)


def answer(names: dict[str, Any], mount: Mount) -> None:
    for line in sys.stdin:
        say(evaluate(line.strip(), names))
    leave(mount, lazy=True)


def leave(mount: Mount, *, lazy: bool = False) -> None:
    """Unmount, unless somebody else just did."""
    with contextlib.suppress(NotMounted):
        mount.unmount(lazy=lazy)


def main() -> int:
    point, options, place = sys.argv[1:4]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    names = open_roots(place)
    try:
        mount = Mount(names["roots"], point, MountOptions.parse(options))
    except FusefsError as error:
        say(f"ended {type(error).__name__}: {error}")
        return 1
    names["mount"] = mount
    names["counters"] = mount.counters
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave, args=(mount,)).start())
    threading.Thread(target=answer, args=(names, mount), daemon=True).start()
    failure: list[BaseException] = []

    def serve() -> None:
        try:
            mount.run(lambda: say("ready"))
        except Exception as error:
            failure.append(error)

    serving = threading.Thread(target=serve)
    serving.start()
    serving.join()
    for part in ("roots", "repo"):
        if hasattr(names.get(part), "close"):
            names[part].close()
    said = f" {type(failure[0]).__name__}: {failure[0]}" if failure else ""
    say(f"ended{said}")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
