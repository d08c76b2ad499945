"""Writes files and says what `fsync` acknowledged, until its file system goes away.

    python writer.py FOLDER SEED

Each line is JSON, flushed at once: `{"begin": NAME, "sha256": …}` before a file is touched and
`{"done": NAME, "sha256": …}` when its content and its name are durable. Three ways to write: a new
file, an old one replaced by `rename`, and lines appended to a log, which says the number of lines.
"""

import hashlib
import json
import os
import random
import sys
from pathlib import Path

LOG = "log"
LINE_SIZE_BYTES = 64


def log_line(number: int) -> bytes:
    return b"%063d\n" % number


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write_file(folder: Path, name: str, content: bytes) -> None:
    """A new file, or a new content under an old name: whole before or whole after."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / name
    say(begin=name, sha256=digest)
    if path.exists():
        part = folder / f"{name}.part"
        write_durably(part, content)
        part.rename(path)
        sync_folder(folder)
    else:
        write_durably(path, content)
    say(done=name, sha256=digest)


def append_line(folder: Path) -> None:
    with (folder / LOG).open("ab") as file:
        count = file.tell() // LINE_SIZE_BYTES
        file.write(log_line(count))
        file.flush()
        os.fsync(file.fileno())
    say(logged=count + 1)


def main(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(1_000_000):
        names = [f"{seed}-{number}", f"{rng.randrange(seed + 1)}-{rng.randrange(number + 1)}"]
        size_bytes = rng.choice((0, 10, 4096, 5000, 70_000, 300_000, 1_200_000))
        write_file(folder, names[rng.random() < 0.4], rng.randbytes(size_bytes))
        append_line(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
