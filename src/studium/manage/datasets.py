"""Rows that come from elsewhere, kept by their content: datasets/SHA256.jsonl, whole and checked or not at all.

The name is the hash of the bytes, so nothing that a stranger says becomes a path, and the same rows are there once.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from studium.errors import BadRequest, OperatorError
from studium.manage.recipes import DATASETS
from studium.train.bases import sha256_of
from studium.train.config import Source
from studium.train.data import lines_of

# What stays free on the disk, for the runs that are to learn from the rows.
KEPT_FREE_BYTES = 512 * 2**20
_COMING, _OLD_S = ".coming-", 86_400.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


def place_of(workspace: Path, sha256: str) -> Path:
    """Return where rows of this content lie, or would. Raises BadRequest for what is no hash."""
    if _SHA256.fullmatch(sha256):
        return workspace / DATASETS / f"{sha256}.jsonl"
    raise BadRequest(f"{sha256[:80]!r} is no name for rows", expected="their SHA-256: 64 digits of 0-9, a-f")


def check_room(num_bytes: int, free_bytes: int) -> None:
    """Raise OperatorError where so many bytes would leave too little of a disk free. Pure."""
    if free_bytes - num_bytes < KEPT_FREE_BYTES:
        raise OperatorError(
            f"{num_bytes:,} bytes of rows do not fit: {free_bytes:,} bytes of the disk are free",
            expected=f"{KEPT_FREE_BYTES:,} bytes free besides",
            try_next="remove what is not needed from datasets/ and runs/ of that workspace",
        )


@contextmanager
def arriving(workspace: Path) -> Iterator[Path]:
    """Yield a file for rows to come into; what is not settled when the block ends is gone."""
    home = workspace / DATASETS
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{_COMING}*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _OLD_S:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=home, prefix=_COMING) as folder:
        yield Path(folder) / "rows.jsonl"


def settle(rows: Path, workspace: Path, sha256: str = "") -> Path:
    """Check every row of a file that came and keep it under its hash; return where. Blocks.

    Raises BadRequest naming the line, also for another hash than `sha256`.
    """
    found = sha256_of(rows)
    if sha256 and found != sha256:
        raise BadRequest(f"the rows that came have the hash {found[:12]}", expected=f"{sha256[:12]}")
    for _ in lines_of(Source(file=str(rows))):
        pass
    return rows.replace(place_of(workspace, found))


def take_file(source: Path, workspace: Path) -> Path:
    """Copy a file of rows into the workspace under its hash; return where. Blocks. Raises BadRequest."""
    try:
        with arriving(workspace) as rows:
            shutil.copyfile(source, rows)
            return settle(rows, workspace)
    except OSError as error:
        raise BadRequest(
            f"the data file {source} cannot be taken: {error.strerror}",
            expected="a file of JSON lines, and room for a copy of it in the workspace",
        ) from error
