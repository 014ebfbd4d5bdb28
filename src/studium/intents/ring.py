"""A channel's file mapped into memory: one process publishes frames, any number read the newest.

No lock is taken and no system call made after opening. Who may write is settled before, by `claimed`.
"""

import contextlib
import mmap
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from studium.errors import BadRequest, OperatorError, Unsupported
from studium.intents import layout
from studium.intents.layout import Frame

TRIES = 64
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Keeps the pages in memory whatever else wants it; linux/mman.h, and Python 3.11 has no name for it.
_MAP_LOCKED = 0x2000 if sys.platform == "linux" else 0


class Ring:
    """One mapped file. `created` or `opened` make it; close it after use."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.map = _mapped(path, writable=writable)

    def close(self) -> None:
        self.map.close()

    @property
    def count(self) -> int:
        """How many frames were published."""
        return layout.COUNT.unpack_from(self.map, layout.COUNT_AT)[0]

    def is_of_this_boot(self) -> bool:
        """Whether the times in it can be compared with this machine's clock."""
        return self.map[layout.BOOT_AT : layout.BOOT_AT + layout.BOOT_BYTES] == boot_id()

    @property
    def is_retired(self) -> bool:
        return layout.COUNT.unpack_from(self.map, layout.STATE_AT)[0] == layout.REMOVED

    def frame(self, sequence: int) -> Frame | None:
        """Return one of the latest frames; None where it is gone or was being written."""
        start = layout.slot_at(sequence)
        return layout.unpack(self.map[start : start + layout.SLOT_BYTES], sequence)

    def newest(self) -> Frame | None:
        """Return the newest frame; None where there is none, or the file is damaged."""
        for _ in range(TRIES):
            count = self.count
            if count == 0:
                return None
            if (frame := self.frame(count)) is not None:
                return frame
        return None

    def publish(self, frame: Frame) -> Frame:
        """Make `frame` the newest, and return it numbered and dated. Only the owner may call this."""
        published = layout.numbered(frame, self.count + 1, time.monotonic_ns())
        data = layout.pack(published)
        start = layout.slot_at(published.sequence)
        self.map[start : start + len(data)] = data
        layout.COUNT.pack_into(self.map, layout.COUNT_AT, published.sequence)
        return published

    def adopt(self) -> None:
        """Say that times are this boot's from now on. Only the owner may call this."""
        self.map[layout.BOOT_AT : layout.BOOT_AT + layout.BOOT_BYTES] = boot_id()

    def retire(self) -> None:
        """Tell those who have it mapped that it is used no more."""
        layout.COUNT.pack_into(self.map, layout.STATE_AT, layout.REMOVED)


def opened(path: Path, *, writable: bool = False) -> Ring:
    """Map an existing file. Raises FileNotFoundError, BadRequest for another kind of file, OperatorError."""
    return Ring(path, writable=writable)


def created(path: Path, first: Frame | None = None) -> Ring:
    """Map a file for writing, making it, with a first frame, where it is missing or of another layout.

    Raises OperatorError.
    """
    with contextlib.suppress(FileNotFoundError, BadRequest):
        ring = opened(path, writable=True)
        if not ring.is_retired:
            return ring
        ring.close()  # its server was killed while it removed the channel
    part = path.with_name(path.name + ".part")
    whole = bytearray(layout.FILE_BYTES)
    layout.HEADER.pack_into(
        whole,
        0,
        layout.MAGIC,
        layout.VERSION,
        layout.SLOT_BYTES,
        int(first is not None),
        layout.LIVE,
        boot_id(),
    )
    if first is not None:
        slot = layout.pack(layout.numbered(first, 1, time.monotonic_ns()))
        whole[layout.slot_at(1) : layout.slot_at(1) + len(slot)] = slot
    try:
        with part.open("wb") as file:
            # Its blocks are taken now: a page that finds the disk full only when it is written kills the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, layout.FILE_BYTES)
            file.write(whole)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    return opened(path, writable=True)


def unwritable(path: Path, error: OSError) -> OperatorError:
    """Return the error for a file the disk refuses."""
    return OperatorError(
        f"{path} cannot be written: {error.strerror or error}",
        expected="a workspace that may be written to, on a disk with free space",
        try_next="make room, or choose another place with --workspace",
    )


@contextmanager
def claimed(path: Path, what: str) -> Iterator[None]:
    """Be the only process that writes `what` until the block ends; a lock that ends with its process.

    Raises OperatorError where another has it.
    """
    try:
        import fcntl
    except ImportError as error:
        raise Unsupported("intents need a system with flock(2)", expected="Linux or macOS") from error
    try:
        file = path.open("ab")
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OperatorError(
                f"another process writes {what} ({path})", expected="one writer", try_next="end the other one"
            ) from error
        yield


@cache
def boot_id() -> bytes:
    """Return what tells this run of the machine from those before; zeros where the system has no such thing."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))[: layout.BOOT_BYTES]
    except (OSError, ValueError):
        return bytes(layout.BOOT_BYTES)


def _mapped(path: Path, *, writable: bool) -> mmap.mmap:
    try:
        with path.open("r+b" if writable else "rb") as file:
            _check(path, file.read(layout.HEADER.size), os.fstat(file.fileno()).st_size)
            return _map(file.fileno(), writable=writable)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def _check(path: Path, header: bytes, size: int) -> None:
    if size == layout.FILE_BYTES and len(header) == layout.HEADER.size:
        magic, version, slot_bytes, *_ = layout.HEADER.unpack(header)
        if (magic, version, slot_bytes) == (layout.MAGIC, layout.VERSION, layout.SLOT_BYTES):
            return
    raise BadRequest(
        f"{path} is no channel of this version",
        expected=f"{layout.FILE_BYTES:,} bytes that begin with {layout.MAGIC.decode()}",
        try_next="use the same version of Studium on both sides, and restart the server",
    )


def _map(descriptor: int, *, writable: bool) -> mmap.mmap:
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    for flags in (mmap.MAP_SHARED | _MAP_LOCKED, mmap.MAP_SHARED):
        with contextlib.suppress(OSError):  # more locked memory than the user may have: it works without
            return mmap.mmap(descriptor, layout.FILE_BYTES, flags=flags, prot=protection)
    return mmap.mmap(descriptor, layout.FILE_BYTES, prot=protection)
