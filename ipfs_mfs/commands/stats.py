"""`ipfs-mfs stats`: exact numbers about the store."""

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.sizes import size_text


@verb("stats", examples="ipfs-mfs stats\nipfs-mfs stats --json")
def command(app: App) -> None:
    """The numbers are kept at every write, not estimated. Opening a big store is not needed."""
    stats = app.node.stats()
    owner = f"daemon {stats.daemon_pid}" if stats.daemon_pid else "no daemon"
    lines = [
        f"store      {stats.store} ({owner})",
        f"device     {stats.device_bytes} ({size_text(stats.device_bytes)})",
        f"used       {stats.used_bytes} ({size_text(stats.used_bytes)})",
        f"live       {stats.live_bytes} ({size_text(stats.live_bytes)})",
        f"dead       {stats.dead_bytes} ({size_text(stats.dead_bytes)}), given back by compact",
        f"free       {stats.free_bytes} ({size_text(stats.free_bytes)})",
        f"segments   {stats.segments}, {stats.segments_free} free",
        f"blocks     {stats.blocks}",
        f"names      {stats.roots} roots, {stats.snapshots} snapshots, {stats.pins} pins",
    ]
    lines += [f"mount      {mount.mountpoint} ({mount.root})" for mount in stats.mounts]
    app.output.record(stats, "\n".join(lines))
