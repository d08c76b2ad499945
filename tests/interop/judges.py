"""The independent judges of the interop tests: where `make peers` put them, and how to run them.

A test that uses one carries the marker `needs_peers` (Kubo, csi-sanity) or `needs_node` (the npm
packages of package.json beside this file).
"""

import os
import subprocess
from pathlib import Path


def peers_folder() -> Path:
    """What `make peers` built: a cache outside the checkout, kept from run to run."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("IPFS_MFS_PEERS") or Path(cache) / "ipfs-mfs-peers")


def kubo() -> Path:
    """Kubo's `ipfs`, at the version of tests/peers/versions.sh."""
    return peers_folder() / "bin" / "ipfs"


def node_folder() -> Path:
    """The folder whose node_modules hold the npm judges."""
    return peers_folder() / "npm" / "current"


def run_node(script: Path, *arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Run an ES module with the npm judges at hand, and return what it printed.

    The module is given to node as text: an `import` is looked up from where the module lies, and
    the judges do not lie in the checkout. Its arguments begin at `process.argv[1]`.
    """
    answer = subprocess.run(
        ["node", "--input-type=module", "-e", script.read_text(), "--", *map(str, arguments)],
        cwd=node_folder(),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert answer.returncode == 0, f"{script.name}: {answer.stderr.decode(errors='replace')}"
    return answer.stdout
