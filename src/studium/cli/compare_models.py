"""The two models of a comparison, each however it was named, in one roster and one fleet: memory is counted once."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.cli.eval_asking import model_file, spoken_here, with_file

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.config import Config
    from studium.evals.gate.evidence import Side
    from studium.evals.runner import Way
    from studium.records.models import ModelSpec, Student


@dataclass(frozen=True, slots=True)
class Entered:
    """One of the two, as it was named (`said`), its name in the roster, and its id where it is registered."""

    said: str
    name: str
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Two:
    """A configuration whose roster holds both."""

    config: "Config"
    baseline: Entered
    tuned: Entered


class Open(NamedTuple):
    """Both, ready to be asked. `peaks` holds the most memory seen of each model, by its name."""

    ways: tuple["Way", "Way"]
    peaks: dict[str, int]
    look: Any


def both(config: "Config", baseline: str, tuned: str) -> Two:
    """Find both models. Raises BadRequest or UnknownModel for a name that leads to none."""
    config, first = _enter(config, baseline, like="")
    config, second = _enter(config, tuned, like=first.name)
    return Two(config, first, second)


def sides(two: Two) -> tuple["Side", "Side"]:
    """Return what both are now, by the hashes of their files. Reads these files whole."""
    from studium.evals.gate.evidence import Side
    from studium.serve.fingerprint import fingerprint

    students = _students(two.config)
    found: list[Side] = []
    for one in (two.baseline, two.tuned):
        student = students[one.name]
        files = {path.name: _sha256(path) for path in _files(student.model)}
        side = Side(
            name=one.name,
            adapter=one.adapter,
            files=files,
            precision=_precision(student.model),
            fingerprint=fingerprint(student),
        )
        found.append(side)
    return found[0], found[1]


def engines(two: Two) -> str:
    """Return what computes both, with its version."""
    from importlib.metadata import version

    from studium.registry import LLAMACPP

    students = _students(two.config)
    names = {students[one.name].model.engine for one in (two.baseline, two.tuned)}
    return ", ".join(
        f"{name} (xllamacpp {version('xllamacpp')})" if name == LLAMACPP else name for name in sorted(names)
    )


def file_bytes(two: Two) -> tuple[int | None, int | None]:
    """Return the bytes of both models' files, None where no file is known here."""
    students = _students(two.config)
    sizes = [
        sum(path.stat().st_size for path in _files(students[one.name].model)) or None
        for one in (two.baseline, two.tuned)
    ]
    return sizes[0], sizes[1]


@asynccontextmanager
async def opened(two: Two, timeout_s: float) -> AsyncIterator[Open]:
    """Open the workspace until the block ends."""
    from studium.app import open_studium
    from studium.evals.runner import Way

    async with open_studium(two.config) as studium:
        students = [studium.ensemble.team.student(one.name) for one in (two.baseline, two.tuned)]
        ways = [
            Way(spoken_here(studium, student, student.name, timeout_s), timeout_s=timeout_s)
            for student in students
        ]
        peaks: dict[str, int] = {}

        async def look() -> None:
            await _see_memory(studium, students, peaks)

        yield Open((ways[0], ways[1]), peaks, look)


def _enter(config: "Config", said: str, *, like: str) -> tuple["Config", Entered]:
    """Put one model into the roster; a file is asked as the student `like` is: with its prompt."""
    from studium.registry import build_roster

    file = model_file(said)
    if file is None:
        _known(config, said)
        return config, Entered(said, said)
    config, name = with_file(config, file)
    if like:
        prompt = build_roster(config).students[like].system_prompt
        config = replace(
            config, students=(*config.students[:-1], replace(config.students[-1], system_prompt=prompt))
        )
    return config, Entered(said, name)


def _known(config: "Config", name: str) -> None:
    from difflib import get_close_matches

    from studium.errors import UnknownModel

    students = _students(config)
    if name in students:
        return
    near = get_close_matches(name, students, n=1)
    raise UnknownModel(
        f"there is no student {name[:80]!r}",
        expected=f"one of {', '.join(students)}, a GGUF file, or a training run's folder",
        try_next=f"did you mean {near[0]!r}?" if near else "list them with: studium students list",
    )


def _students(config: "Config") -> Mapping[str, "Student"]:
    from studium.registry import build_roster

    return build_roster(config).students


async def _see_memory(studium: "Studium", students: list["Student"], peaks: dict[str, int]) -> None:
    names = {student.model.name for student in students}
    for residence in await studium.fleet.residences():
        peak = residence.peak_bytes or residence.resident_bytes
        if residence.model in names and peak:
            peaks[residence.model] = max(peaks.get(residence.model, 0), peak)


def _files(model: "ModelSpec") -> list[Path]:
    sources = (model.source, *model.adapters)
    return [path for one in sources if (path := Path(one.partition("#")[0])).is_absolute() and path.is_file()]


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _precision(model: "ModelSpec") -> str:
    """Return how the weights are stored, by the file's own word; "" where no GGUF file tells."""
    from studium.engines.gguf_metadata import FILE_TYPES, BrokenGguf, read_gguf

    told: list[str] = []
    for path in _files(model):
        try:
            number = read_gguf(path).metadata.get("general.file_type")
        except BrokenGguf:
            continue
        told.append(FILE_TYPES.get(number, f"type {number}") if isinstance(number, int) else "unknown")
    return " + ".join(told)


async def hashed(two: Two) -> tuple["Side", "Side"]:
    """Return `sides` without holding up the loop."""
    return await asyncio.to_thread(sides, two)
