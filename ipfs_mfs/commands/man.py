"""`ipfs-mfs man`: the manual pages, made from the command tree."""

from pathlib import Path

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import cli, verb
from ipfs_mfs.manual import pages


@verb(
    "man",
    examples="ipfs-mfs man ~/.local/share/man/man1\nman ipfs-mfs-mount",
)
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
def command(app: App, directory: str) -> None:
    """One page for every command. Pages that are there already are replaced."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in pages(cli, "ipfs-mfs"):
        (target / name).write_text(text, encoding="utf-8")
        app.output.record({"page": str(target / name)}, str(target / name))
