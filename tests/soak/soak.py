"""Random operations with random kills, for as long as `make soak` is told.

    python -m tests.soak.soak [RESULT]

`SOAK_MINUTES` (30) says how long, `SOAK_SEED` replays a run. A worker process works on a store in a
file, another on a loop device where we are root; each is killed with SIGKILL at a random moment,
again and again, and every time all of the store is read and compared with what the worker was told
to do: nothing acknowledged may be missing, nothing else may be there but a prefix of what it did
after that; a store that was resized has its old size or the new one. The result goes to RESULT, by
default last.json beside this file.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from blkdev import superblock
from blkdev.device import open_device
from blkdev.devices.file import FileDevice
from blkdev.store import Store
from tests.blkdev import loops
from tests.blkdev.devices import assert_sound
from tests.soak.lives import ACKNOWLEDGED, STORE_SIZES, Plan, State, encoded, found_in, same

HERE = Path(__file__).parent
SIZE_BYTES = STORE_SIZES[0]
SEGMENT_SIZE_BYTES = 1 << 20
LIFE_MAX_S = 4.0
END_S = 60


@dataclass
class Result:
    """What a soak did and found."""

    commit: str = ""
    date: str = ""
    seed: int = 0
    minutes: float = 0.0
    kills: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


class Patient:
    """One store that is worked on and killed."""

    def __init__(self, path: Path, result: Result) -> None:
        self.path = path
        self.state = State()
        self.size_bytes = SIZE_BYTES
        self._result = result
        with contextlib.closing(open_device(path)) as device:
            Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)

    def live(self, seed: int, life_s: float) -> None:
        """One life: work, kill, look. Raises AssertionError with what is wrong."""
        said = self._work(seed, life_s)
        plan = Plan(seed, self.state.copy())
        allowed, sizes = [self.state], [self.size_bytes]
        for outcome in said:
            step = plan.step()
            kind = step.kind if outcome != "full" else f"{step.kind}, full"
            if step.size_bytes and outcome != "full":
                sizes = [step.size_bytes]
            self._result.operations[kind] = self._result.operations.get(kind, 0) + 1
            plan.outcome(step, outcome)
            if outcome == ACKNOWLEDGED:
                allowed.clear()
            allowed.append(plan.state.copy())
        # The step that was under way may have been done, and nobody heard of it.
        step = plan.step()
        plan.outcome(step, "ok")
        allowed.append(plan.state)
        if step.size_bytes:
            sizes.append(step.size_bytes)
        with Store.open(open_device(self.path)) as store:
            size_bytes = superblock.load(store.device).device_size_bytes
            assert size_bytes in sizes, f"seed {seed}: the store has {size_bytes} of {sizes} bytes"
            found = found_in(store)
            fitting = [state for state in allowed if same(state, found)]
            assert fitting, f"seed {seed}: none of {len(allowed)} states that may be was found"
            assert_sound(store)
        self.state, self.size_bytes = fitting[-1], size_bytes

    def _work(self, seed: int, life_s: float) -> list[str]:
        command = [sys.executable, "-m", "tests.soak.lives", str(self.path), str(seed)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as worker:
            print(encoded(self.state), file=worker.stdin, flush=True)
            timer = time.monotonic() + life_s
            lines: list[str] = []
            for line in worker.stdout:
                lines.append(line)
                if time.monotonic() > timer:
                    break
            worker.send_signal(signal.SIGKILL)
            lines += worker.stdout.readlines()
            ended = worker.wait(END_S)
        assert ended == -signal.SIGKILL, f"seed {seed}: the worker ended by itself: {ended}"
        return [line.strip() for line in lines if line.endswith("\n")]


def soak(places: list[Path], seed: int, *, minutes: float = 0.0, lives: int = 0) -> Result:
    """Until the time is over, so many lives were lived, or something is found."""
    rng, result, began = random.Random(seed), Result(seed=seed), time.monotonic()
    patients = [Patient(place, result) for place in places]
    while result.kills < lives or time.monotonic() < began + 60 * minutes:
        patient = patients[result.kills % len(patients)]
        try:
            patient.live(seed + result.kills, rng.uniform(0.05, LIFE_MAX_S) ** 2 / LIFE_MAX_S)
        except Exception as error:
            result.findings.append(f"{type(error).__name__}: {error}")
            break
        result.kills += 1
    result.minutes = round((time.monotonic() - began) / 60, 1)
    return result


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "last.json"
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1 << 30)))
    minutes = float(os.environ.get("SOAK_MINUTES", "30"))
    print(f"SOAK_SEED={seed} SOAK_MINUTES={minutes}", flush=True)
    # Whoever ends us must not leave a loop device behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        FileDevice(folder / "store", create_size_bytes=SIZE_BYTES).close()
        places = [folder / "store"]
        if os.geteuid() == 0:
            name = stack.enter_context(loops.attached(folder / "disk", SIZE_BYTES))
            places.append(Path(name))
        result = soak(places, seed, minutes=minutes)
    result.commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE
    ).stdout.strip()
    result.date = datetime.datetime.now(datetime.UTC).date().isoformat()
    target.write_text(json.dumps(asdict(result), indent=2, sort_keys=True) + "\n")
    print(target.read_text())
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
