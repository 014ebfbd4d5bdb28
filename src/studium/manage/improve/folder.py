"""What one improvement did so far: WORKSPACE/improvements/NAME/, read by whoever wants to know, written by one process.

improvement.json   what was asked for, what each step found, how it ended; replaced whole after every step
rehearsal.jsonl    the model's own replies that are replayed
recipe.yaml        what was trained
report.md, report.html
"""

import fcntl
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from studium.errors import BadRequest, ConfigurationError
from studium.manage.improve.ending import Ending

HOME = "improvements"
LEAST_STEPS = 50
"""With fewer nothing would be learnt."""
_FILE, _LOCK = "improvement.json", ".lock"
_NUMBER = re.compile(r"-(\d+)$")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. `domains` empty: the weakest skill; `levels` of it: those it gets something of.

    `problems` of each domain are for the comparison. Nothing is trained where fewer than `least_steps` fit into the
    time. `shelf` is where below adapters/ the result lies, "": the role's.
    """

    role: str
    domains: tuple[str, ...] = ()
    minutes: float = 10.0
    problems: int = 300
    rows: int = 4096
    lora: bool = False
    seed: int = 1
    levels: tuple[int, ...] = ()
    shelf: str = ""
    least_steps: int = LEAST_STEPS


@dataclass(slots=True)
class Improvement:
    """One improvement and what its steps found, by step."""

    folder: Path
    wanted: Wanted
    began_at: float
    steps: dict[str, Json] = field(default_factory=dict[str, Json])
    spent_s: float = 0.0
    ending: Ending | None = None
    detail: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    def keep(self) -> None:
        """Write what is known, whole."""
        told = {
            "name": self.name,
            "wanted": asdict(self.wanted),
            "began_at": self.began_at,
            "spent_s": self.spent_s,
            "steps": self.steps,
            "ending": self.ending,
            "detail": self.detail,
        }
        part = self.folder / (_FILE + ".part")
        part.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        part.replace(self.folder / _FILE)


@contextmanager
def at_work(improvement: Improvement) -> Iterator[None]:
    """Hold an improvement for this process. Raises ConfigurationError where another works on it."""
    with (improvement.folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"another process works on the improvement {improvement.name}",
                expected="one at a time",
                try_next="studium improve list",
            ) from error
        yield


def begin(workspace: Path, wanted: Wanted, name: str = "") -> Improvement:
    """Make the folder of a new improvement: ROLE-N, or a name that nobody has."""
    home = workspace / HOME
    home.mkdir(parents=True, exist_ok=True)
    taken = [one.name for one in home.iterdir() if one.name.startswith(f"{wanted.role}-")]
    number = 1 + max((int(found[1]) for one in taken if (found := _NUMBER.search(one))), default=0)
    while True:
        folder = home / (name or f"{wanted.role}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            if name:
                raise
            number += 1
            continue
        made = Improvement(folder, wanted, time.time())
        made.keep()
        return made


def improvements(workspace: Path) -> list[Improvement]:
    """Return what was begun in a workspace, the oldest first."""
    found = [read(one.parent) for one in (workspace / HOME).glob(f"*/{_FILE}")]
    return sorted(found, key=lambda one: one.began_at)


def read(folder: Path) -> Improvement:
    """Read an improvement. Raises BadRequest where the folder holds none."""
    try:
        told: Mapping[str, Any] = orjson.loads((folder / _FILE).read_bytes())
        asked = dict(told["wanted"])
        asked |= {name: tuple(asked.get(name, ())) for name in ("domains", "levels")}
        ending = Ending(told["ending"]) if told["ending"] else None
        return Improvement(
            folder,
            Wanted(**asked),
            told["began_at"],
            dict(told["steps"]),
            told["spent_s"],
            ending,
            told["detail"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{folder.name!r} is no improvement: {getattr(error, 'strerror', None) or error}",
            expected="the name of one that was begun",
            try_next="studium improve list",
        ) from error
