"""Verbs of `ipfs-mfs pin`. The group itself is here, its commands are the modules beside."""

import click

from ipfs_mfs.cli import COMMANDS, PIN_COMMANDS, LazyGroup


@click.group(
    "pin",
    cls=LazyGroup,
    package="ipfs_mfs.commands.pin",
    summaries=PIN_COMMANDS,
    short_help=COMMANDS["pin"],
    epilog="\b\nExamples:\n  ipfs-mfs pin add main@now\n  ipfs-mfs pin ls",
)
def command() -> None:
    """A pinned DAG stays in the store until the pin is removed, whatever happens to the roots."""
