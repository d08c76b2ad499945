"""The way from `bench` to a store of its own: owned, open and writable, for the whole run."""

from collections.abc import Callable
from contextlib import ExitStack

from ipfs_mfs import connect, owner
from ipfs_mfs.config import Config
from ipfs_mfs.errors import StoreInUse
from ipfs_mfs.measuring import Measured, Measuring


def measure_store(config: Config, seconds: float, progress: Callable[[int, int], None]) -> Measured:
    """Raises StoreInUse, StoreMissing, NoRoom, and what opening a store for writing raises."""
    from blkdev.device import open_device
    from blkdev.store import Store

    with ExitStack() as undo:
        place = owner.place_of(config)
        state = place.read_state() if place.answers() else None
        if state is not None:
            raise StoreInUse(
                f"{config.store} is in use by daemon {state.pid}, and measuring needs it alone",
                f"unmount it, or end the daemon with `kill {state.pid}`",
            )
        lock = connect.lock_store(config, place)
        undo.callback(lock.release)
        connect.clean_up(place)
        connect.require_store(config)
        device = open_device(config.store)
        undo.callback(device.close)
        # Reads through the repository are compared with their hashes there.
        store = undo.enter_context(Store.open(device, verify_reads=False))
        return Measuring(store, seconds, progress).run()
