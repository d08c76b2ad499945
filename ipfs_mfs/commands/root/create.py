"""`ipfs-mfs root create`."""

import click

from ipfs_mfs.app import App
from ipfs_mfs.cli import ROOT_COMMANDS, verb
from ipfs_mfs.sizes import parse_size_bytes


@verb(
    "create",
    summaries=ROOT_COMMANDS,
    examples="ipfs-mfs root create photos\n"
    "ipfs-mfs root create old --profile unixfs-v0-2015\n"
    "ipfs-mfs root create copy --cid bafybeib… --quota 10G",
)
@click.argument("name")
@click.option("--profile", help="Decides the CIDs, for the root's whole life.")
@click.option("--quota", help="Refuse to grow beyond this size, for example 10G.")
@click.option("--cid", help="Start with the content of this CID.")
def command(app: App, name: str, profile: str | None, quota: str | None, cid: str | None) -> None:
    """An empty root, or with --cid one that starts as that DAG and goes its own way."""
    try:
        quota_bytes = parse_size_bytes(quota) if quota else None
    except ValueError as error:
        raise click.UsageError(f"--quota: {error}") from error
    info = app.node.root_create(name, profile or app.config.profile, quota_bytes, cid)
    app.output.record(info, f"{info.name} {info.cid}")
