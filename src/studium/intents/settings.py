"""How a channel is asked about: what a caller may choose, within which bounds, and how it is kept on disk.

One JSON file per channel, written beside its place and renamed: after a kill there is the old one or the new one.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from studium.config.document import Scalar
from studium.config.kinds import Expected, Number, Whole, YesNo
from studium.errors import BadRequest
from studium.intents.layout import MOST_FALLBACK_BYTES, NAME, checked_name, checked_text
from studium.intents.moment import parsed
from studium.intents.ring import unwritable
from studium.records.answers import Complexity, Query
from studium.records.messages import Message, Sampling

MOST_CHANNELS = 64
MOST_PROMPT_BYTES = 16_384
MOST_STUDENTS = 16
OBSERVATION, HORIZON, PREVIOUS = "{observation}", "{horizon_s}", "{previous}"
QUESTION = f"{OBSERVATION}\n\nSay in one short line what to do in the next {HORIZON} seconds."
PLAN = f"{OBSERVATION}\n\nGive a plan for the next {HORIZON} seconds: what to do, and from which second on (at_s)."
PLAN_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": 8,
            "items": {
                "type": "object",
                "properties": {"at_s": {"type": "number"}, "do": {"type": "string", "maxLength": 120}},
                "required": ["at_s", "do"],
            },
        }
    },
    "required": ["steps"],
}
_KINDS: Mapping[str, Number | Whole | YesNo] = {
    "hz": Number(0.1, 4.0),
    "horizon_s": Number(0.5, 60.0),
    "blend_s": Number(0.0, 10.0),
    "timeout_s": Number(0.5, 300.0),
    "max_tokens": Whole(1, 1024),
    "plan": YesNo(),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A channel's choices.

    `question` is a template with {observation} and, if wanted, {horizon_s} and {previous} (the last intent); empty:
    QUESTION, or PLAN where `plan` asks for timed steps. `model`, `students`, `complexity` and `strategy` are those
    of a `Query`. `hz` is how often at most the students are asked; `horizon_s` how long after its observation an
    intent holds; `blend_s` how long the transition to it takes; `fallback` what is to be done without a fresh one.
    `api_key_name` is whose key pays.
    """

    question: str = ""
    system: str = ""
    model: str = "auto"
    students: tuple[str, ...] = ()
    complexity: str = ""
    strategy: str = ""
    hz: float = 1.0
    horizon_s: float = 4.0
    blend_s: float = 0.3
    fallback: str = ""
    plan: bool = False
    json_schema: Mapping[str, Any] | None = None
    max_tokens: int = 64
    timeout_s: float = 30.0
    api_key_name: str = ""

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The form an intent must have; None: any text."""
        return PLAN_SCHEMA if self.plan else self.json_schema


_FIELDS = {field.name: field for field in fields(Settings)}


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Return the settings in a JSON object. Raises BadRequest for a field or value there is not."""
    for name in given:
        if name not in _FIELDS:
            raise BadRequest(f"a channel has no {name[:60]!r}", expected=f"some of {', '.join(_FIELDS)}")
    settings = Settings(**{name: _value(name, value) for name, value in given.items() if value is not None})
    _check(settings)
    return settings


def query_of(settings: Settings, observation: str, previous: str) -> Query:
    """Return the question about an observation."""
    question = settings.question or (PLAN if settings.plan else QUESTION)
    # In one pass, so that an observation that holds "{previous}" stays as it is.
    parts = {OBSERVATION: observation, HORIZON: f"{settings.horizon_s:g}", PREVIOUS: previous}
    system = (Message("system", settings.system),) if settings.system else ()
    return Query(
        messages=(*system, Message("user", _filled(question, parts))),
        model=settings.model,
        complexity=Complexity(settings.complexity) if settings.complexity else None,
        strategy=settings.strategy or None,
        students=settings.students,
        sampling=Sampling(max_tokens=settings.max_tokens),
        json_schema=settings.schema,
        timeout_s=settings.timeout_s,
        api_key_name=settings.api_key_name,
        cache=False,
        refine=False,
    )


def save(folder: Path, name: str, settings: Settings) -> None:
    """Keep a channel's settings on disk. Raises OperatorError where the disk refuses."""
    path = _file(folder, name)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(asdict(settings), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def load(folder: Path, name: str) -> Settings:
    """Return a channel's settings. Raises BadRequest where its file holds something else."""
    try:
        given = json.loads(_file(folder, name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadRequest(f"{_file(folder, name)} cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise BadRequest(f"{_file(folder, name)} holds a {type(given).__name__}", expected="a JSON object")
    return settings_of(given)


def forget(folder: Path, name: str) -> None:
    """Remove a channel's settings."""
    _file(folder, name).unlink(missing_ok=True)


def kept(folder: Path) -> Iterator[str]:
    """Yield the names of the channels kept in a folder, sorted."""
    if folder.is_dir():
        for path in sorted(folder.glob("*.json")):
            if NAME.fullmatch(path.stem):
                yield path.stem


def _file(folder: Path, name: str) -> Path:
    return folder / f"{checked_name(name)}.json"


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Return the template with each placeholder replaced once, never inside what replaced another."""
    for placeholder, value in parts.items():
        if placeholder in template:
            rest = {other: text for other, text in parts.items() if other != placeholder}
            return value.join(_filled(piece, rest) for piece in template.split(placeholder))
    return template


def _value(name: str, value: Any) -> Any:
    if kind := _KINDS.get(name):
        try:
            return kind.read(Scalar(value, str(value), ""))
        except Expected as error:
            raise _wrong(name, value, str(error)) from None
    match name:
        case "students":
            if not isinstance(value, list) or len(value) > MOST_STUDENTS or not all(map(_is_text, value)):
                raise _wrong(name, value, f"a list of at most {MOST_STUDENTS} names")
            return tuple(value)
        case "json_schema":
            if not isinstance(value, dict) or len(json.dumps(value)) > MOST_PROMPT_BYTES:
                raise _wrong(name, value, f"a JSON schema of at most {MOST_PROMPT_BYTES:,} characters")
            return value
        case _:
            if not _is_text(value):
                raise _wrong(name, value, "text")
            return checked_text(value, name, MOST_FALLBACK_BYTES if name == "fallback" else MOST_PROMPT_BYTES)


def _check(settings: Settings) -> None:
    """Raise BadRequest where values do not go together."""
    if settings.question and OBSERVATION not in settings.question:
        raise _wrong("question", settings.question, f"a template that holds {OBSERVATION}")
    if settings.complexity and settings.complexity not in set(Complexity):
        raise _wrong("complexity", settings.complexity, f"one of {', '.join(Complexity)}")
    if settings.plan and settings.json_schema is not None:
        raise BadRequest("both plan and json_schema were given", expected="one of them")
    if settings.schema is not None and settings.fallback and parsed(settings.fallback) is None:
        raise _wrong("fallback", settings.fallback, "JSON, since the channel's intents are JSON")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _wrong(name: str, value: object, expected: str) -> BadRequest:
    shown = repr(value)
    return BadRequest(f"{name} is {shown[:60]}{'...' * (len(shown) > 60)}", expected=expected)
