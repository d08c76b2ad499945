"""A process that holds a store, for tests of what kills processes.

    python -m tests.blkdev.holder PATH

Each line on stdin is a Python expression, or a statement, about `store` and what this module and
tests/blkdev/devices.py define; the answer is one line: `= ` and the repr, or `! ` and the type and
the text of the exception. Its first answer is about opening the store. `Holder` is the handle on
such a process.
"""

import ast
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blkdev.device import open_device
from blkdev.store import Store
from tests.blkdev import devices

ANSWER_S = 60


def opened(path: str) -> Store:
    device = open_device(path)
    try:
        return Store.open(device)
    except BaseException:
        device.close()
        raise


def evaluate(line: str, names: dict[str, Any]) -> str:
    """Run one line of a test; the test decides what its exceptions mean."""
    try:
        code = ast.parse(line)
        if len(code.body) == 1 and isinstance(code.body[0], ast.Expr):
            return f"= {eval(line, names)!r}"
        exec(line, names)
        return "= None"
    except BaseException as error:
        return f"! {type(error).__name__}: {error}"


def main() -> None:
    names: dict[str, Any] = {**vars(devices), "opened": opened, "path": sys.argv[1]}
    print(evaluate("store = opened(path)", names), flush=True)
    for line in sys.stdin:
        print(evaluate(line.strip(), names).replace("\n", " "), flush=True)


class Holder:
    """The process that holds the store."""

    def __init__(self, path: str | Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.blkdev.holder", str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.opened = self._process.stdout.readline().rstrip("\n")

    def ask(self, line: str) -> str:
        """The answer; none at all is a dead process, which is what must never be."""
        print(line, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().rstrip("\n")
        assert answer, f"the process died of {self._process.wait(ANSWER_S)}"
        return answer

    def must(self, line: str) -> str:
        answer = self.ask(line)
        assert answer.startswith("= "), answer
        return answer[2:]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(ANSWER_S)
        self._process.stdin.close()
        self._process.stdout.close()


@contextlib.contextmanager
def held(path: str | Path) -> Iterator[Holder]:
    """A process that opened the store at `path`; killed at the end."""
    holder = Holder(path)
    try:
        assert holder.opened == "= None", holder.opened
        yield holder
    finally:
        holder.kill()


if __name__ == "__main__":
    main()
