"""A roll-out: a challenger meets traffic, one comparison after another, until something follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rollout:
    """One challenger on its way. `number` is that of the change of the route that began it.

    `steps` are the shares it goes through by itself, from the shadow on; without them it stays as it was begun.
    `quality` names the streams that tell whether it is better. `ended_at` None: it goes on.
    """

    number: int
    role: str
    champion: str
    challenger: str
    began_at: float
    steps: tuple[float, ...] = ()
    quality: tuple[str, ...] = ()
    ended_at: float | None = None
    outcome: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one question told of champion and challenger, by stream (`evals.gate.live.Stream`), larger is better.

    In the shadow both sides tell something, in the shift the one that answered; what was not scored is not there.
    `number` is the row's, 0 before it is written.
    """

    rollout: int
    at: float
    request_id: str
    phase: str
    kind: str
    champion: Mapping[str, float] = field(default_factory=dict[str, float])
    challenger: Mapping[str, float] = field(default_factory=dict[str, float])
    number: int = 0
