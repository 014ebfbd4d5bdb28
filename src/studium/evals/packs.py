"""Packs: fresh problems by seed, domain and level, and frozen suites, which stay as they are for ever.

A suite is a JSONL file. Its first line names it and holds the hash of the rest; a line that was changed is noticed.
The suites that ship lie in `suites/`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from studium.domains.catalogue import trusted
from studium.domains.protocol import Problem
from studium.errors import BadRequest
from studium.evals.items import Item, fresh_items

SHIPPED = Path(str(files("studium") / "evals" / "suites"))
_FORM = 1


@dataclass(frozen=True, slots=True)
class Pack:
    """So many fresh problems of each domain, of these levels (empty: all), from this seed."""

    domains: tuple[str, ...]
    problems: int
    seed: int = 1
    levels: tuple[int, ...] = ()

    def items(self) -> list[Item]:
        """Return the problems; equal packs give equal ones. Raises CallerError (see `fresh_items`)."""
        return fresh_items(self.domains, self.problems, self.seed, levels=self.levels)


class Suite(NamedTuple):
    """A frozen set of problems. `sha256` is of its lines."""

    name: str
    sha256: str
    items: Sequence[Item]


def freeze(pack: Pack, path: Path) -> Suite:
    """Write a pack's problems to a new file and return them as a suite. Raises BadRequest where a file is there."""
    items = pack.items()
    lines = b"".join(orjson.dumps(asdict(item.problem)) + b"\n" for item in items if item.problem)
    sha256 = hashlib.sha256(lines).hexdigest()
    head = {"suite": path.stem, "form": _FORM, "problems": len(items), "sha256": sha256, "pack": asdict(pack)}
    try:
        with path.open("xb") as file:
            file.write(orjson.dumps(head) + b"\n" + lines)
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be written: {error.strerror}",
            expected="a new file in a folder that exists",
            try_next="a frozen suite is never overwritten: choose another name",
        ) from error
    return read_suite(path)


def read_suite(path: Path) -> Suite:
    """Read a suite and hold it against its hash. Raises BadRequest where it is none, or was changed."""
    try:
        head, _, lines = path.read_bytes().partition(b"\n")
        told: dict[str, Any] = orjson.loads(head)
        name, sha256 = str(told["suite"]), str(told["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{path} is no suite: {getattr(error, 'strerror', None) or type(error).__name__}",
            expected=f"a file made by studium eval freeze, or one of {', '.join(shipped())}",
        ) from error
    found = hashlib.sha256(lines).hexdigest()
    if found != sha256:
        raise BadRequest(
            f"{path} was changed: its lines have the hash {found[:12]}",
            expected=f"{sha256[:12]}, as its first line says",
            try_next="take the file from where it was kept, or freeze a new suite under another name",
        )
    return Suite(name, sha256, [_item(path, orjson.loads(line)) for line in lines.splitlines()])


def suite(name: str) -> Suite:
    """Return a suite that ships by its name, else the one in the file of that name."""
    if name in shipped():
        return read_suite(SHIPPED / f"{name}.jsonl")
    return read_suite(Path(name).expanduser())


def shipped() -> list[str]:
    """Return the names of the suites that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.jsonl"))


def _item(path: Path, row: Mapping[str, Any]) -> Item:
    try:
        problem = Problem(**{**row, "steps": tuple(row["steps"])})
    except (KeyError, TypeError) as error:
        raise BadRequest(f"{path} holds a line that is no problem: {error}") from error
    return Item(problem.prompt, problem.expected, trusted(problem.domain), problem)
