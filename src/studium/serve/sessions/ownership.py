"""One process runs a session. The operating system holds the lock, so it never outlives its owner.

`owner.lock` is locked with flock(2), which ends with the process, also by kill -9: a dead owner leaves nothing to
take over but its name in the file. The file tells whose it is, by process id and start time.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from studium.errors import OperatorError, Unsupported


class Owner(NamedTuple):
    """The process that runs a session; `started_at` (seconds since the epoch) tells it from a later one of its id."""

    pid: int
    started_at: float


@contextmanager
def owned(lock: Path, name: str) -> Iterator[Owner]:
    """Own a session until the block ends. Raises OperatorError where another process does, or the disk refuses."""
    with _opened(lock) as file:
        if not _try_lock(file):
            owner = _read(file)
            raise OperatorError(
                f"the session {name!r} is being run by process {owner.pid if owner else 'unknown'}",
                expected="one process for one session",
                try_next=f"watch it with: studium session monitor {name}; end it with: studium session stop {name}",
            )
        me = Owner(os.getpid(), psutil.Process().create_time())
        file.seek(0)
        file.truncate()
        json.dump({"pid": me.pid, "started_at": me.started_at, "since": time.time()}, file)
        file.flush()
        try:
            yield me
        finally:
            file.truncate(0)


def _opened(lock: Path) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise OperatorError(
            f"{lock.parent} cannot be written: {error.strerror or error}",
            expected="a folder that may be written to, on a disk with free space",
            try_next="make room, or choose another place with --workspace",
        ) from error


def owner_of(lock: Path) -> Owner | None:
    """Return who runs a session now, or None. Changes nothing."""
    try:
        with lock.open(encoding="utf-8") as file:
            owner = _read(file)
    except OSError:
        return None
    if owner is None:
        return None
    try:
        process = psutil.Process(owner.pid)
        alive = abs(process.create_time() - owner.started_at) < 1.0
        alive = alive and process.status() != psutil.STATUS_ZOMBIE  # dead, and nobody has asked how it died
    except psutil.Error:
        return None
    return owner if alive else None


def _try_lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError as error:
        raise Unsupported("sessions need a system with flock(2)", expected="Linux or macOS") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(file: IO[str]) -> Owner | None:
    try:
        file.seek(0)
        told = json.load(file)
        return Owner(int(told["pid"]), float(told["started_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
