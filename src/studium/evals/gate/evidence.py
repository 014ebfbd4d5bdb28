"""What the gate measured, as one body that tells the same verdict wherever it is read again, or is refused.

The body holds both models by the hashes of their files, what was asked, the limits, and every pair of scores. Its
SHA-256 is its name, so that a changed one is noticed. It is laid down as evidence/ID.json in the workspace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from studium.errors import BadRequest, ConfigurationError, OperatorError
from studium.evals.gate.verdict import Decision, Limits, Pair, judge
from studium.records.adapters import Evidence, Verdict, content_sha256

Json = dict[str, Any]
_FORM = 1
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models. `files` maps each file's name to its SHA-256, `adapter` is its id where it is registered.

    `precision` is how its weights are stored, "" where nobody can tell; `fingerprint` also covers its prompt and its
    way of drawing tokens. `base` names the student whose place it is asked in.
    """

    name: str
    adapter: str = ""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    precision: str = ""
    fingerprint: str = ""
    base: str = ""


def body_of(
    champion: Side,
    challenger: Side,
    *,
    asked: Mapping[str, Any],
    engine: str,
    limits: Limits,
    fresh: Sequence[Pair],
    suite: Sequence[Pair] | None,
) -> Json:
    """Return a body in its plain form. `asked` is what tells the problems from all others, seeds and hashes in it."""
    body = {
        "form": _FORM,
        "champion": asdict(champion),
        "challenger": asdict(challenger),
        "asked": asked,
        "engine": engine,
        "limits": asdict(limits),
        "fresh": [list(one) for one in fresh],
        "suite": None if suite is None else [list(one) for one in suite],
    }
    return orjson.loads(orjson.dumps(body))


def seal(body: Mapping[str, Any], *, role: str, at: float) -> Evidence:
    """Return the evidence of a body with the verdict it tells."""
    return Evidence(
        id=content_sha256(body),
        at=at,
        role=role,
        champion=body["champion"]["adapter"],
        challenger=body["challenger"]["adapter"],
        verdict=decision_of(body).verdict,
        body=body,
    )


def decision_of(body: Mapping[str, Any]) -> Decision:
    """Return what the gate says of a body. Raises BadRequest where it is none."""
    try:
        if body["form"] != _FORM:
            raise ValueError(f"form {body['form']}")
        suite = None if body["suite"] is None else _pairs(body["suite"])
        return judge(_pairs(body["fresh"]), suite, Limits(**body["limits"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest(
            f"the evidence cannot be read: {type(error).__name__}: {error}",
            expected="the body of a comparison",
        ) from error


def replay(evidence: Evidence) -> Decision:
    """Return the verdict computed again. Raises ConfigurationError where body or verdict were changed."""
    found = content_sha256(evidence.body)
    if found != evidence.id:
        raise ConfigurationError(
            f"the evidence was changed: its body has the hash {found[:12]}",
            expected=f"{evidence.id[:12]}, its name",
            try_next="compare the two models again",
        )
    decision = decision_of(evidence.body)
    if decision.verdict is not evidence.verdict:
        raise ConfigurationError(
            f"the evidence says {evidence.verdict}, and its pairs say {decision.verdict}",
            expected="one verdict",
            try_next="compare the two models again",
        )
    return decision


def changed(body: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between a body and a body's head as it would be written today, as words for people."""
    return [
        f"{key}.{part}" if part else key
        for key in ("champion", "challenger", "asked", "engine")
        for part in _differing(body.get(key), now.get(key))
    ]


def write(evidence: Evidence, folder: Path) -> Path:
    """Lay evidence down as ID.json, at once or not at all. Raises OperatorError."""
    path = folder / f"{evidence.id}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(orjson.dumps(asdict(evidence), option=orjson.OPT_INDENT_2))
        part.replace(path)
    except OSError as error:
        raise OperatorError(
            f"{path} cannot be written: {error.strerror}", expected="a workspace that may be written to"
        ) from error
    return path


def read(path: Path) -> Evidence:
    """Read evidence as `write` lays it down. Raises BadRequest where it is none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes long")
        told = orjson.loads(path.read_bytes())
        return Evidence(**{**told, "verdict": Verdict(told["verdict"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{path} is no evidence: {getattr(error, 'strerror', None) or error}",
            expected="a file that studium compare wrote",
        ) from error


def _pairs(rows: Sequence[Sequence[Any]]) -> list[Pair]:
    return [Pair(*row) for row in rows]


def _differing(one: object, other: object) -> list[str]:
    if one == other:
        return []
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    return [""]
