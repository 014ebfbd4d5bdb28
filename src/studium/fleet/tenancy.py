"""The books of residency: who waits, who holds memory, what is expected, what was not given back.

Plain state with questions about it. Only residency's owner loop changes it; reading it elsewhere is advice.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from studium.fleet.demand import Demand
from studium.fleet.limits import Limits
from studium.fleet.situation import TenantState
from studium.records.models import ModelSpec
from studium.records.scheduling import Priority

# The engine of what is no model but holds memory: a training run's lease (`lease`).
LEASE = "lease"
# What was announced and did not come is forgotten this long after it was due.
HINT_KEPT_S = 60.0


class Grant(NamedTuple):
    """A place at a model. `load_seconds` is what the ask itself waited for the model's load.

    `model` is the model as it stands in memory, on its device and perhaps in a smaller shape; `device`
    what profiles call the device.
    """

    load_seconds: float
    model: ModelSpec
    device: str = ""


@dataclass(slots=True)
class WaitingAsk:
    """An ask without a seat. `needs` are the bytes its model takes, by device, when it came."""

    number: int
    model: ModelSpec
    priority: Priority
    since: float
    until: float
    needs: Mapping[str, int]
    grant: asyncio.Future[Grant]
    least_context_tokens: int | None = None


@dataclass(slots=True)
class Housed:
    """A model that holds memory. `declared` is the model as asked for, `model` as it was started.

    `note` says how its shape is smaller than declared; `left_at` is when it was told to leave.
    """

    declared: ModelSpec
    model: ModelSpec
    device: str
    state: TenantState
    bytes: int
    load_seconds: float
    idle_since: float
    loaded_at: float = 0.0
    in_flight: int = 0
    busy_since: float = 0.0
    priority: Priority = Priority.INTERACTIVE
    died: bool = False
    note: str = ""
    left_at: float | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.declared.name


@dataclass(frozen=True, slots=True)
class Kept:
    """Memory that an engine says it gave back, and still holds."""

    model: ModelSpec
    device: str
    bytes: int
    since: float


@dataclass(frozen=True, slots=True)
class Hint:
    """A model somebody says will be asked for at `due`, with `probability`."""

    model: ModelSpec
    due: float
    probability: float


@dataclass(slots=True)
class House:
    """All of it. `taken` is what other programs hold of each device's budget, as last measured; `found_on` the
    device on which an engine that places models itself was seen to put one.
    """

    limits: Limits
    waiting: dict[int, WaitingAsk] = field(default_factory=dict[int, WaitingAsk])
    tenants: dict[str, Housed] = field(default_factory=dict[str, Housed])
    kept: dict[str, Kept] = field(default_factory=dict[str, Kept])
    hints: dict[int, tuple[Hint, ...]] = field(default_factory=dict[int, tuple[Hint, ...]])
    taken: dict[str, int] = field(default_factory=dict[str, int])
    demand: Demand = field(default_factory=Demand)
    served_at: dict[Priority, float] = field(default_factory=dict[Priority, float])
    left_at: dict[str, float] = field(default_factory=dict[str, float])
    found_on: dict[str, str] = field(default_factory=dict[str, str])

    def reserved_bytes(self, device: str | None = None) -> int:
        """Return the memory set aside for all tenants now, on one device or on all."""
        return sum(one.bytes for one in self.tenants.values() if device in (None, one.device))

    def kept_bytes(self, device: str) -> int:
        return sum(one.bytes for one in self.kept.values() if one.device == device)

    def not_ours_bytes(self, device: str) -> int:
        """Return what of a device's budget cannot be given to a model: taken by others, or kept by engines."""
        return self.taken.get(device, 0) + self.kept_bytes(device)

    def overfull(self) -> bool:
        """Whether more is promised to models, somewhere, than is there."""
        return any(
            self.reserved_bytes(device.name) > device.bytes - self.not_ours_bytes(device.name)
            for device in self.limits.homes
        )

    def wanted(self, name: str) -> ModelSpec | None:
        """Return the model of that name that somebody waits for or expects."""
        for ask in self.waiting.values():
            if ask.model.name == name:
                return ask.model
        return next((hint.model for hint in self.all_hints() if hint.model.name == name), None)

    def needs(self, name: str) -> Mapping[str, int]:
        """Return the bytes by device that an ask for a model brought; nothing where none waits."""
        return next((ask.needs for ask in self.waiting.values() if ask.model.name == name), {})

    def all_hints(self) -> Iterator[Hint]:
        for hints in self.hints.values():
            yield from hints

    def forget_old_hints(self, now: float) -> None:
        """Forget what was announced and did not come."""
        self.hints = {
            number: kept
            for number, hints in self.hints.items()
            if (kept := tuple(hint for hint in hints if now < hint.due + HINT_KEPT_S))
        }

    def loading(self) -> bool:
        return any(one.state is TenantState.LOADING for one in self.tenants.values())

    def least_context_tokens(self, name: str) -> int | None:
        """Return the context every ask that waits for a model can do with; None where one needs all of it."""
        needs = [ask.least_context_tokens for ask in self.waiting.values() if ask.model.name == name]
        return None if not needs or None in needs else max(need for need in needs if need is not None)
