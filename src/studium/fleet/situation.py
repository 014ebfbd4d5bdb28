"""What the planner may know, and the moves it may answer with. Plain facts: seconds, bytes, names.

Whoever calls `plan` fills in a `Situation`: residency from the real world, the simulator from a virtual
one. All times are relative to the moment of the call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from studium.records.scheduling import Priority

# Seconds after which the oldest ask of a class goes before every class above it, in units of `patience_s`.
PATIENCE_FACTORS: Mapping[Priority, float] = {
    Priority.SESSION: 6.0,
    Priority.EVALUATION: 12.0,
    Priority.CAMPAIGN: 30.0,
    Priority.TRAINING: 60.0,
}


class TenantState(StrEnum):
    LOADING = "loading"
    RESIDENT = "resident"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Device:
    """Memory that models share: a GPU, or main memory.

    `taken_elsewhere_bytes` is what other programs hold of the budget at this moment.
    """

    name: str
    budget_bytes: int
    taken_elsewhere_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """What a model would cost on one device.

    `bytes` is the cautious end of its forecast. `slowdown` multiplies the seconds an ask runs there: 1
    on the device its forecasts were made for, more where layers run on the processor instead.
    """

    device: str
    bytes: int
    load_seconds: float
    unload_seconds: float = 0.0
    slowdown: float = 1.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """A model that holds memory now.

    `idle_s` counts since its last run ended, `resident_s` since its load ended, `busy_s` forecasts how
    long until all asks in flight are done. `load_seconds` is what bringing it back would cost and
    `uses_per_second` how often it is asked for. A `preemptible` tenant (a training run's lease) may be
    told to leave while in use, by asks above its `priority`.
    """

    model: str
    state: TenantState
    bytes: int
    slots: int
    in_flight: int
    idle_s: float
    load_seconds: float
    device: str = "memory"
    unload_seconds: float = 0.0
    resident_s: float = 0.0
    busy_s: float = 0.0
    uses_per_second: float = 0.0
    priority: Priority = Priority.INTERACTIVE
    preemptible: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """An ask that has no seat yet. `deadline_s` is how long its answer is still of use."""

    ask: int
    model: str
    priority: Priority
    waited_s: float
    run_seconds: float = 1.0
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """A model somebody says will be asked for `in_s` seconds from now, with `probability`."""

    model: str
    in_s: float
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Rules:
    """How the planner weighs what cannot all be had.

    `patience_s`: a class that was served nothing for PATIENCE_FACTORS times this long gets one ask
    through before the classes above it. `turn_swaps`: a model in use keeps its place, against asks of
    the same class, for this many times what the swap costs (unload, load, and its own way back).
    """

    max_models: int = 6
    patience_s: float = 10.0
    turn_swaps: float = 30.0
    prefetch: bool = True


@dataclass(frozen=True, slots=True)
class Situation:
    """All that `plan` may know.

    `places` holds, for every model that is waited for or expected, where it could live, the preferred
    device first; no places, or one of 0 bytes, means that it occupies none of our memory.
    `served_s_ago` says per class when one of its asks was last seated, `away_s` per absent model how long
    it has been out of memory (not there: since ever).
    """

    waiting: Sequence[Waiting]
    tenants: Sequence[Tenant]
    places: Mapping[str, Sequence[Place]]
    devices: Sequence[Device]
    rules: Rules = Rules()
    expected: Sequence[Expected] = ()
    served_s_ago: Mapping[Priority, float] = field(default_factory=dict[Priority, float])
    away_s: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Run:
    """Seat an ask at its model, which is resident."""

    ask: int


@dataclass(frozen=True, slots=True)
class Load:
    """Bring a model into the memory of `device`, which has room for it."""

    model: str
    device: str
    reason: str
    prefetch: bool = False


@dataclass(frozen=True, slots=True)
class Evict:
    """Give a model's memory back. It is idle, or a preemptible tenant that is to be told."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop a load nobody wants any more."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Turn an ask away for good: no device could ever hold its model.

    `largest_bytes` is the most any device could give.
    """

    ask: int
    needed_bytes: int
    largest_bytes: int


Move = Run | Load | Evict | Abandon | Refuse
