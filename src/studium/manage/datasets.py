"""Rows that come from elsewhere, kept by their content: datasets/SHA256.jsonl, whole and checked or not at all.

The name is the hash of the bytes, so nothing that a stranger says becomes a path, and the same rows are there once.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from studium.errors import BadRequest, StoreUnavailable
from studium.manage.recipes import DATASETS
from studium.train.config import Source
from studium.train.data import lines_of

# What stays free on the disk, for the runs that are to learn from the rows.
KEPT_FREE_BYTES = 512 * 2**20
_COMING, _OLD_S = ".coming-", 86_400.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


def place_of(workspace: Path, sha256: str) -> Path:
    """Return where rows of this content lie, or would. Raises BadRequest for what is no hash."""
    if not _SHA256.fullmatch(sha256):
        raise BadRequest(
            f"{sha256[:80]!r} is no name for rows", expected="their SHA-256, 64 digits of 0-9, a-f"
        )
    return workspace / DATASETS / f"{sha256}.jsonl"


def check_room(workspace: Path, num_bytes: int) -> None:
    """Raise StoreUnavailable where so many bytes would leave too little of the disk free."""
    workspace.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(workspace).free
    if free - num_bytes < KEPT_FREE_BYTES:
        raise StoreUnavailable(
            f"{num_bytes:,} bytes of rows do not fit: {free:,} bytes of the disk are free",
            expected=f"{KEPT_FREE_BYTES:,} bytes free besides",
            try_next="remove what is not needed from datasets/ and runs/ of that workspace",
        )


class Arriving:
    """A file of rows while it comes. Every call blocks."""

    def __init__(self, home: Path, path: Path) -> None:
        self._home = home
        self._path = path
        self._digest = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Take the next bytes. Raises StoreUnavailable."""
        self._digest.update(piece)
        try:
            with self._path.open("ab") as file:
                file.write(piece)
        except OSError as error:
            raise StoreUnavailable(
                f"{self._home} cannot be written: {error.strerror}", try_next="free some space"
            ) from error

    def settle(self, sha256: str = "") -> Path:
        """Check every row and keep the file under its hash; return where. Raises BadRequest, also for another hash."""
        found = self._digest.hexdigest()
        if sha256 and found != sha256:
            raise BadRequest(
                f"the rows that came have the hash {found[:12]}", expected=f"{sha256[:12]}, as they are named"
            )
        for _ in lines_of(Source(file=str(self._path))):
            pass
        place = self._home / f"{found}.jsonl"
        self._path.replace(place)
        return place


@contextmanager
def arriving(workspace: Path) -> Iterator[Arriving]:
    """Take rows in while the block runs; what was not settled at its end is gone."""
    home = workspace / DATASETS
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{_COMING}*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _OLD_S:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=home, prefix=_COMING) as folder:
        path = Path(folder) / "rows.jsonl"
        path.touch()
        yield Arriving(home, path)


def take_file(workspace: Path, source: Path) -> Path:
    """Copy a file of rows into the workspace under its hash; return where. Blocks. Raises as Arriving does."""
    try:
        with source.open("rb") as file, arriving(workspace) as rows:
            while piece := file.read(_CHUNK_BYTES):
                rows.write(piece)
            return rows.settle()
    except OSError as error:
        raise BadRequest(
            f"the data file {source} cannot be read: {error.strerror}", expected="a file of JSON lines"
        ) from error
