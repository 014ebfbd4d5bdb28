"""The two models of a comparison, each however it was named, asked in one place and one fleet.

Memory is counted once that way, and a challenger speaks with the prompt and sampling of whose place it would take.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from studium.app import STORE_FILE, Studium, open_studium
from studium.cli.eval_asking import model_file, spoken_here, with_file
from studium.engines.gguf_metadata import FILE_TYPES, BrokenGguf, read_gguf
from studium.errors import UnknownModel
from studium.evals.gate.evidence import Side
from studium.evals.runner import Way
from studium.records.models import ModelSpec, Student
from studium.registry import LLAMACPP, Registry, build_roster
from studium.registry.files import sha256_of_file
from studium.serve.history.fingerprint import fingerprint
from studium.serve.team.places import seated
from studium.serve.team.routing import holders_of
from studium.store import open_store

if TYPE_CHECKING:
    from studium.config import Config
    from studium.records.adapters import Adapter, Evidence

_ADAPTER = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)/([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class Entered:
    """One of the two: as it was named, who speaks, the role it holds ("" for a file), its id where it is registered."""

    said: str
    student: Student
    role: str = ""
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Two:
    """Both, with a configuration whose engines run them, and the role one would take from the other."""

    config: "Config"
    baseline: Entered
    tuned: Entered
    role: str


class Open(NamedTuple):
    """Both, ready to be asked. `peaks` holds the most memory seen of each model, by its name; `look` looks again."""

    ways: tuple[Way, Way]
    peaks: dict[str, int]
    look: Callable[[], Awaitable[None]]


def both(config: "Config", baseline: str, tuned: str, role: str = "") -> Two:
    """Find both models. Blocks for the store. Raises BadRequest or UnknownModel for a name that leads to none."""
    with _registry(config) as registry:
        config, first = _enter(config, registry, baseline, like=None)
        config, second = _enter(config, registry, tuned, like=first)
        role = role or second.role or first.role
        known = registry.adapters(role) if registry and role else []
    first, second = (_registered(one, known) for one in (first, second))
    return Two(config, first, second, role)


def sides(two: Two) -> tuple[Side, Side]:
    """Return what both are now, by the hashes of their files. Reads these files whole."""
    return _side(two.baseline), _side(two.tuned)


def engines(two: Two) -> str:
    """Return what computes both, with its version where it comes with Studium."""
    from importlib.metadata import version

    names = {one.student.model.engine for one in (two.baseline, two.tuned)}
    return ", ".join(
        f"{name} (xllamacpp {version('xllamacpp')})" if name == LLAMACPP else name for name in sorted(names)
    )


def file_bytes(entered: Entered) -> int | None:
    """Return the bytes of a model's files, None where none is known here."""
    return sum(path.stat().st_size for path in _files(entered.student.model)) or None


def keep(config: "Config", evidence: "Evidence") -> bool:
    """Put evidence into the store, where the registry looks for it; False where there is no store yet."""
    with _registry(config) as registry:
        if registry is not None:
            registry.add_evidence(evidence)
        return registry is not None


def kept(config: "Config", evidence_id: str) -> "Evidence | None":
    """Return evidence of the store. Raises BadRequest where it holds none of that id."""
    with _registry(config) as registry:
        return registry.evidence(evidence_id) if registry is not None else None


@asynccontextmanager
async def opened(two: Two, timeout_s: float) -> AsyncIterator[Open]:
    """Open the workspace until the block ends."""
    async with open_studium(two.config) as studium:
        students = two.baseline.student, two.tuned.student
        first, second = (
            Way(spoken_here(studium, one, one.name, timeout_s), timeout_s=timeout_s) for one in students
        )
        peaks: dict[str, int] = {}

        async def look() -> None:
            await _see_memory(studium, {one.model.name for one in students}, peaks)

        yield Open((first, second), peaks, look)


def _enter(
    config: "Config", registry: Registry | None, said: str, *, like: Entered | None
) -> tuple["Config", Entered]:
    """Put one model in its place; a file is asked as `like` is, with its prompt and sampling."""
    holders = holders_of(
        build_roster(config).students, {role: one.student for role, one in config.roles.items()}
    )
    if said in holders:
        adapter = _champion(registry, said)
        return config, _entered(config, holders, said, said, adapter)
    named = _ADAPTER.fullmatch(said)
    if named and not Path(said).expanduser().exists():
        if registry is None or named[1] not in holders:
            raise UnknownModel(
                f"there is no role {named[1][:80]!r} with adapters, and no file {said[:80]!r}",
                expected="ROLE/NAME of a registered adapter, or a file",
                try_next="studium adapters list",
            )
        return config, _entered(config, holders, said, named[1], registry.adapter(named[1], named[2]))
    file = model_file(said)
    if file is None:
        raise _unknown(said, holders)
    config, name = with_file(config, file)
    student = build_roster(config).students[name]
    if like is not None:
        student = replace(like.student, name=name, model=student.model, adapter="")
    return config, Entered(said, student)


def _entered(
    config: "Config", holders: Mapping[str, Student], said: str, role: str, adapter: "Adapter | None"
) -> Entered:
    if adapter is None:
        return Entered(said, holders[role], role)
    student = seated(holders[role], role, adapter, config.workspace, build_roster(config).models)
    return Entered(said, student, role, adapter.id)


def _champion(registry: Registry | None, role: str) -> "Adapter | None":
    champion = registry.route(role).champion if registry is not None else ""
    return registry.adapter(role, champion) if registry is not None and champion else None


def _registered(entered: Entered, known: "list[Adapter]") -> Entered:
    """Return a file's entry with the id of the adapter that has the same file, where one was registered."""
    if entered.role or not known:
        return entered
    hashes = {sha256_of_file(path) for path in _files(entered.student.model)}
    found = next((one.id for one in known if one.files.get(one.serving_file) in hashes), "")
    return replace(entered, adapter=found)


def _side(entered: Entered) -> Side:
    student = entered.student
    return Side(
        name=student.adapter or student.name,
        adapter=entered.adapter,
        files={path.name: sha256_of_file(path) for path in _files(student.model)},
        precision=_precision(student.model),
        fingerprint=fingerprint(student),
    )


def _unknown(said: str, holders: Mapping[str, Student]) -> UnknownModel:
    near = get_close_matches(said, holders, n=1)
    return UnknownModel(
        f"there is no student {said[:80]!r}",
        expected=f"one of {', '.join(holders)}, ROLE/NAME of an adapter, a GGUF file, or a training run's folder",
        try_next=f"did you mean {near[0]!r}?" if near else "studium students list",
    )


@contextmanager
def _registry(config: "Config") -> Iterator[Registry | None]:
    """Yield the workspace's registry; None where nothing was ever kept."""
    path = config.workspace / STORE_FILE
    if not path.is_file():
        yield None
        return
    store = open_store(path)
    try:
        yield Registry(store, config.workspace, build_roster(config).models)
    finally:
        store.close()


async def _see_memory(studium: Studium, names: set[str], peaks: dict[str, int]) -> None:
    for residence in await studium.fleet.residences():
        peak = residence.peak_bytes or residence.resident_bytes
        if residence.model in names and peak:
            peaks[residence.model] = max(peaks.get(residence.model, 0), peak)


def _files(model: ModelSpec) -> list[Path]:
    sources = (Path(one.partition("#")[0]) for one in (model.source, *model.adapters))
    return [path.resolve() for path in sources if path.is_absolute() and path.is_file()]


def _precision(model: ModelSpec) -> str:
    """Return how the weights are stored, by the files' own word; "" where no GGUF file tells."""
    told: list[str] = []
    for path in _files(model):
        try:
            number = read_gguf(path).metadata.get("general.file_type")
        except BrokenGguf:
            continue
        told.append(FILE_TYPES.get(number, f"type {number}") if isinstance(number, int) else "unknown")
    return " + ".join(told)
