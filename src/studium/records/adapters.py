"""What a challenger is, which one serves a role, and every change of that: facts that `manage` decides on.

A role is a place in the team. Every student that answers holds the role of its own name; the configuration may name
further ones (`roles`). What serves a role is its champion: an adapter by its id, or "" for the student as the roster
has it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

OWN_STUDENT = ""
STANDS_ON, STUDENT = "stands_on", "student"
"""Of a lineage: the id of the adapter whose model was trained on, and the roster's model all of it began with."""
ROUTES_LEASE = "routes"
"""The lease under which routes are changed: one for all roles."""


def canonical(body: Mapping[str, Any]) -> str:
    """Return a mapping as the one JSON text that is hashed: keys in order, no spaces."""
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()


def content_sha256(body: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a mapping's canonical JSON: the id of evidence, of an adapter's card, of a change."""
    return hashlib.sha256(canonical(body).encode()).hexdigest()


class AdapterKind(StrEnum):
    """An adapter is a LoRA beside its base; a model stands by itself (a whole GGUF file)."""

    ADAPTER = "adapter"
    MODEL = "model"


class Phase(StrEnum):
    """How a challenger meets traffic: not at all, answering unseen beside the champion, or answering a share."""

    NONE = "none"
    SHADOW = "shadow"
    SHIFT = "shift"


class Verdict(StrEnum):
    """What the gate says. NOT_MEASURED: nothing could be compared, which is never "ok"."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll back"
    NOT_MEASURED = "not measured"


class Action(StrEnum):
    """What a change of a route did; REGISTER and REMOVE leave it as it is: files came, or went."""

    REGISTER = "register"
    CHALLENGE = "challenge"
    SHIFT = "shift"
    WITHDRAW = "withdraw"
    PROMOTE = "promote"
    FORCE = "force"
    ROLL_BACK = "roll back"
    EMERGENCY = "emergency"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Adapter:
    """One registered challenger or champion.

    `id` is the content hash of its card (adapter_meta.json), which holds all that is here but the time, and the hash
    of every file; `name` is unique within its role. `folder` is below the workspace: adapters/ROLE/NAME.
    `serving_file` is the GGUF in it that the engine loads, a LoRA or a whole model; "" where there is none. `base` is
    the model it changes (a roster's model, an embedded student, or ROLE/NAME of the adapter it went on from),
    `base_sha256` of that model's file, "" where nobody noted it. `lineage` holds what it was made from: run, stage,
    data_sha256, recipe_sha256, commit, versions, scores, licence; where it went on from another, STANDS_ON and STUDENT.
    """

    id: str
    role: str
    name: str
    kind: AdapterKind
    base: str
    base_sha256: str
    folder: str
    serving_file: str
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    lineage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    registered_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Route:
    """Who serves a role now. `share` of conversations go to the challenger in phase SHIFT, 0 to 1.

    `number` is that of the last change of this role in the history; 0 where there was none.
    """

    role: str
    champion: str = OWN_STUDENT
    challenger: str = OWN_STUDENT
    phase: Phase = Phase.NONE
    share: float = 0.0
    number: int = 0


@dataclass(frozen=True, slots=True)
class RouteChange:
    """One row of the history, chained by hash: `sha256` covers the row and `previous_sha256`.

    `before` and `after` are the role's routes, as JSON. `token` is the fencing token of the lease under which it was
    made. `evidence` is the id of the gate's evidence, "" only where forced, with the reason kept, or rolled back.
    """

    number: int
    at: float
    role: str
    action: Action
    adapter: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    actor: str
    evidence: str
    reason: str
    token: int
    previous_sha256: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate measured: `id` is `content_sha256(body)`, and the body replays to the same verdict."""

    id: str
    at: float
    role: str
    champion: str
    challenger: str
    verdict: Verdict
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Fault(NamedTuple):
    """Something in the registry that is not as it was written: which row or file, and what is wrong with it."""

    where: str
    what: str
