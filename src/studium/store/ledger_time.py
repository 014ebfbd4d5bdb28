"""The time that spending is booked in: it never runs backwards, and setting the clock does not move it.

While the machine is up it follows the time since boot, which nobody can set and all processes share. Only across
a reboot, where nothing else is left, does it go on by the wall clock, and never back.
"""

import time
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Reading(NamedTuple):
    """What the machine's clocks say: which boot (empty where unknown), seconds since then, seconds since the epoch."""

    boot_id: str
    boot_s: float
    wall_s: float


class Anchor(NamedTuple):
    """The last reading that was booked, and the ledger's time then.

    `wall_s` is no earlier than any clock ever said, nor than the time since makes it: a clock that is put right again
    is not taken for time that passed.
    """

    boot_id: str
    boot_s: float
    wall_s: float
    ledger_s: float


def read_clocks() -> Reading:
    """Read this machine's clocks."""
    # Counts suspend as well, where the system has it.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    try:
        boot_id = _BOOT_ID.read_text().strip()
    except OSError:
        boot_id = ""
    return Reading(boot_id, time.clock_gettime(clock), time.time())


def advance(anchor: Anchor | None, now: Reading) -> Anchor:
    """Return the anchor moved to `now`. Its `ledger_s` is at least the one before."""
    if anchor is None:
        return Anchor(*now, ledger_s=0.0)
    if now.boot_id != anchor.boot_id or (not now.boot_id and now.boot_s < anchor.boot_s):
        passed_s = max(0.0, now.wall_s - anchor.wall_s)
        return Anchor(now.boot_id, now.boot_s, max(now.wall_s, anchor.wall_s), anchor.ledger_s + passed_s)
    passed_s = max(0.0, now.boot_s - anchor.boot_s)
    wall_s = max(now.wall_s, anchor.wall_s + passed_s)
    return Anchor(now.boot_id, anchor.boot_s + passed_s, wall_s, anchor.ledger_s + passed_s)
