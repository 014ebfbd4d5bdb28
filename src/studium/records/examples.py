"""A refined answer to learn from: who said what of it, at what cost, and whether it may be learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a model's words may be used. `training` False: not for training, or nobody said so."""

    licence: str = ""
    training: bool = False
    source: str = "nobody declared terms"


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of the final text: who said it first, who changed it, and what its author's call cost.

    `cost_usd` and `seconds` are those of the whole call in which it got its last form.
    """

    text: str
    said_by: str
    changed_by: tuple[str, ...] = ()
    cost_usd: float | None = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Example:
    """One refined (platinum) answer with its provenance. `trainable` only where every author's terms allow it."""

    request_id: str
    at: float
    domain: str
    kind: str
    question: str
    draft: str
    text: str
    draft_by: str
    refined_by: str
    claims: Sequence[Claim]
    members: Sequence[Mapping[str, Any]]
    terms: Mapping[str, Terms]
    cost_usd: float | None = 0.0
    seconds: float = 0.0
    score: float | None = None
    api_key_name: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def trainable(self) -> bool:
        return all(terms.training for terms in self.terms.values())
