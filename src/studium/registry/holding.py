"""Holding the lease under which routes are changed: waited for, renewed while the work lasts, given back."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from studium.errors import LeaseLost, StoreUnavailable
from studium.records.adapters import ROUTES_LEASE

if TYPE_CHECKING:
    from studium.store.leases import Leases

LEASE_S = 5.0
"""How long others wait for somebody who died holding it."""
HOLD_S = 120.0
WAIT_S = 10.0
LOOK_AGAIN_S = 0.02


@contextmanager
def holding(leases: "Leases", actor: str, wait_s: float = WAIT_S) -> Iterator[int]:
    """Hold the lease and yield its token; wait up to `wait_s` seconds for somebody else.

    It is renewed until the block ends, HOLD_S seconds at most: enough for a change, too short for a measurement.
    Raises LeaseLost.
    """
    token = _taken(leases, f"{actor} (process {os.getpid()})", wait_s)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(leases, token, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield token
    finally:
        ended.set()
        renewing.join()
        leases.release(ROUTES_LEASE, token)


def _taken(leases: "Leases", owner: str, wait_s: float) -> int:
    until = time.monotonic() + wait_s
    while (token := leases.take(ROUTES_LEASE, owner, LEASE_S)) is None:
        if time.monotonic() > until:
            raise LeaseLost(
                f"{leases.holder(ROUTES_LEASE) or 'somebody'} is changing routes",
                expected=f"that to be over within {wait_s:g} s",
                try_next="try again",
            )
        time.sleep(LOOK_AGAIN_S)
    return token


def _renew(leases: "Leases", token: int, ended: threading.Event) -> None:
    until = time.monotonic() + HOLD_S
    while not ended.wait(LEASE_S / 3) and time.monotonic() < until:
        try:
            leases.renew(ROUTES_LEASE, token, LEASE_S)
        except StoreUnavailable:  # whoever changes something then is told so
            continue
