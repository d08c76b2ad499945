"""`ipfs-mfs root stat`."""

import click

from ipfs_mfs.app import App, time_text
from ipfs_mfs.cli import ROOT_COMMANDS, verb
from ipfs_mfs.sizes import size_text


@verb("stat", summaries=ROOT_COMMANDS, examples="ipfs-mfs root stat main")
@click.argument("name")
def command(app: App, name: str) -> None:
    """Counts are kept at every change; nothing is walked."""
    info = app.node.root_stat(name)
    quota = "none" if info.quota_bytes is None else size_text(info.quota_bytes)
    lines = [
        f"name       {info.name}",
        f"cid        {info.cid}",
        f"profile    {info.profile}",
        f"size       {info.size_bytes} ({size_text(info.size_bytes)})",
        f"dag size   {info.dag_size_bytes}",
        f"entries    {info.entries}",
        f"snapshots  {info.snapshots}",
        f"quota      {quota}",
        f"created    {time_text(info.created_ns)}",
        f"changed    {time_text(info.changed_ns)}",
        f"in the DAG {'no, `ipfs-mfs sync` brings it there' if info.is_dirty else 'yes'}",
    ]
    app.output.record(info, "\n".join(lines))
