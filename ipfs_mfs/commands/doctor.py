"""`ipfs-mfs doctor`: what keeps the program from working here, and what to do."""

from ipfs_mfs.app import App
from ipfs_mfs.cli import verb
from ipfs_mfs.errors import FailedError


@verb("doctor", examples="ipfs-mfs doctor\nipfs-mfs doctor --json --store /dev/sdb")
def command(app: App) -> None:
    """Changes nothing. Exit status 1 when a check failed; warnings do not count."""
    from ipfs_mfs.diagnosis import diagnose

    failed = 0
    for item in diagnose(app.config):
        failed += item.status == "fail"
        if app.output.quiet and item.status == "ok":
            continue
        advice = f" ({item.fix})" if item.fix else ""
        app.output.record(item, f"{item.status:4}  {item.check}: {item.message}{advice}")
    if failed:
        raise FailedError(f"{failed} checks failed", "follow the advice above")
