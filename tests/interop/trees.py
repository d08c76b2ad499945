"""Random directory trees with everything that `add` looks at: sizes, names, modes, times, links."""

import os
import random
from pathlib import Path

FOLDER_NAMES = ("d{}", ".hidden{}", "ü {}", "Z{}")
FILE_NAMES = ("f{}", ".hidden-file{}", "ż{}.txt", "A b{}", "-dash{}")
SIZES_BYTES = (0, 1, 10, 31, 32, 33, 100, 255, 256, 257, 1000, 3000, 5000)
LINK_TARGETS = ("nothing", "../x", "a//b/./c")


def make_tree(top: Path, seed: int, *, folders: int = 8, files: int = 25, links: int = 4) -> None:
    """The same tree for the same seed, modes and times included."""
    rng = random.Random(seed)
    top.mkdir()
    made = [top]
    for number in range(folders):
        folder = rng.choice(made) / rng.choice(FOLDER_NAMES).format(number)
        folder.mkdir()
        made.append(folder)
    for number in range(files):
        path = rng.choice(made) / rng.choice(FILE_NAMES).format(number)
        path.write_bytes(rng.randbytes(rng.choice(SIZES_BYTES)))
        path.chmod(rng.choice((0o644, 0o755, 0o600, 0o4755, 0o1777)))
        time_ns = rng.choice((rng.randrange(-(10**18), 2 * 10**18), 5 * 10**9))
        os.utime(path, ns=(time_ns, time_ns))
    for number in range(links):
        path = rng.choice(made) / f"link{number}"
        path.symlink_to(rng.choice(LINK_TARGETS))
        os.utime(path, ns=(1, rng.randrange(2 * 10**18)), follow_symlinks=False)
    for folder in made:
        folder.chmod(rng.choice((0o755, 0o700, 0o2775)))
        os.utime(folder, ns=(1, rng.randrange(2 * 10**18)))
