"""The file behind a model's name, and its content hash: what tells that a base is still the one that was trained on."""

import hashlib
from functools import lru_cache
from pathlib import Path

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
_CHUNK_BYTES = 1 << 20


def base_files(reference: str) -> list[Path]:
    """Return the weights a name, GGUF file or folder stands for; none where they are not on this machine."""
    embedded = EMBEDDED / f"{reference}.gguf"
    if reference.isidentifier() and embedded.exists():
        return [embedded]
    path = Path(reference).expanduser()
    if path.is_file():
        return [path]
    return sorted(path.glob("*.safetensors")) if path.is_dir() else []


def base_sha256(reference: str) -> str:
    """Return the hash of a model's weights, of several files of all in order of their names; "" where there are none.

    Reads them whole.
    """
    found = base_files(reference)
    hashes = [sha256_of(one) for one in found]
    return (
        hashes[0]
        if len(hashes) == 1
        else hashlib.sha256("".join(hashes).encode()).hexdigest()
        if found
        else ""
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file; read again only when it has changed."""
    seen = path.stat()
    return _hashed(path, seen.st_size, seen.st_mtime_ns, seen.st_ino)


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
