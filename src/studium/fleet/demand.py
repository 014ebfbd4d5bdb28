"""How often each model is asked for, as a rate that fades: what the planner takes for its expected use."""

from dataclasses import dataclass
from math import exp

# Asks count for about this long. Shorter follows change, longer tells the often used from the seldom used.
MEMORY_S = 600.0


@dataclass(slots=True)
class _Count:
    weight: float
    at: float


class Demand:
    """Rates of asks by model. Pure bookkeeping: the caller says what time it is."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def asked(self, model: str, now: float) -> None:
        """Count one ask for `model` at `now`, in seconds."""
        self._counts[model] = _Count(self._weight(model, now) + 1.0, now)

    def rate(self, model: str, now: float) -> float:
        """Return the asks per second expected for `model`: an exponentially fading count over its memory."""
        return self._weight(model, now) / MEMORY_S

    def _weight(self, model: str, now: float) -> float:
        count = self._counts.get(model)
        return count.weight * exp((count.at - now) / MEMORY_S) if count else 0.0
