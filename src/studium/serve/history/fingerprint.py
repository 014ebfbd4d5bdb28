"""Which student it is: changes when its model's files, its prompt or its way of drawing tokens change."""

import hashlib
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from studium.records.models import Student

_PIECE_BYTES = 65536


def fingerprint(student: Student) -> str:
    """Return 16 hexadecimal digits. Reads three pieces of each local file, whose contents count and not their place.

    A model that a server changes behind one name cannot be told apart: forgetting has to notice it.
    """
    digest = hashlib.blake2b(digest_size=8)
    model = student.model
    parts = [model.engine, student.system_prompt, *map(str, astuple(student.sampling))]
    for source in (model.source, *model.adapters):
        path = Path(source.partition("#")[0])
        parts.append(path.name + source.partition("#")[2])
        parts += _contents(path) if path.is_absolute() else [source]
    digest.update("\n".join(parts).encode("utf-8", "replace"))
    return digest.hexdigest()


def identity(student: Student) -> str:
    """Return all of a student that decides what it says, and when it is asked; but not its files as they are now."""
    model = student.model
    shape = (model.name, model.context_tokens, model.adapters, sorted(model.options.items()), model.family)
    return repr((student.name, fingerprint(student), shape, student.tier, student.priority, student.skills))


def _contents(path: Path) -> Iterator[str]:
    """Yield what tells a file's content: its size and its two ends and middle; nothing where it cannot be read."""
    try:
        size = path.stat().st_size
        yield str(size)
        with path.open("rb") as file:
            for start in sorted({0, size // 2, max(0, size - _PIECE_BYTES)}):
                file.seek(start)
                yield hashlib.blake2b(file.read(_PIECE_BYTES), digest_size=8).hexdigest()
    except OSError:
        return
