"""Verbs of `ipfs-mfs root`. The group itself is here, its commands are the modules beside."""

import click

from ipfs_mfs.cli import COMMANDS, ROOT_COMMANDS, LazyGroup


@click.group(
    "root",
    cls=LazyGroup,
    package="ipfs_mfs.commands.root",
    summaries=ROOT_COMMANDS,
    short_help=COMMANDS["root"],
    epilog="\b\nExamples:\n"
    "  ipfs-mfs root create photos\n"
    "  ipfs-mfs root snapshot photos before-cleanup\n"
    "  ipfs-mfs root diff photos@before-cleanup photos",
)
def command() -> None:
    """Named mutable trees. Each has a CID, a profile, snapshots and, if wanted, a quota."""
