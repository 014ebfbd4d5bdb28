"""Evidence as the gate lays it down, evidence/ID.json in the workspace: read as facts, judged by nobody here."""

import re
from collections.abc import Iterator
from pathlib import Path

import orjson

from studium.errors import BadRequest
from studium.records.adapters import Evidence, Verdict

FOLDER = "evidence"
MAX_BYTES = 64 * 1024 * 1024
_ID = re.compile(r"[0-9a-f]{8,64}")


def evidence_files(workspace: Path, beginning: str) -> Iterator[Evidence]:
    """Yield the evidence whose id begins so, with eight letters or more. Raises BadRequest for a broken file."""
    if not _ID.fullmatch(beginning):
        return
    for path in sorted((workspace / FOLDER).glob(f"{beginning}*.json")):
        yield _read(path)


def _read(path: Path) -> Evidence:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        told = orjson.loads(path.read_bytes())
        return Evidence(**{**told, "verdict": Verdict(told["verdict"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{path.name} is no evidence: {str(error)[:120]}",
            expected="a file that the gate wrote",
            try_next="compare the two models again",
        ) from error
