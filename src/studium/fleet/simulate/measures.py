"""What a simulated run is judged by. Waits count from the moment an ask was issued, in seconds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studium.fleet.simulate.machine import Issued, Tally
from studium.records.scheduling import Priority


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, 95th percentile (nearest rank) and maximum; `number` of how many."""

    number: int
    mean: float
    p95: float
    most: float


def spread(values: Iterable[float]) -> Spread | None:
    """Return the spread of `values`; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    rank = max(0, -(-95 * len(ordered) // 100) - 1)
    return Spread(len(ordered), sum(ordered) / len(ordered), ordered[rank], ordered[-1])


@dataclass(frozen=True)
class Outcome:
    """A policy's run over a trace."""

    policy: str
    trace: str
    seed: int
    served: Sequence[Issued]
    tally: Tally

    @property
    def makespan_s(self) -> float:
        """From the first ask to the end of the last."""
        ends = [one.ended_s for one in self.served if one.ended_s is not None]
        return max(ends) - min(one.issued_s for one in self.served) if ends else 0.0

    @property
    def refused(self) -> int:
        return sum(one.refused for one in self.served)

    def late(self, priority: Priority | None = None) -> int:
        """Return how many answers came after their deadline."""
        return sum(
            one.ask.deadline_s is not None and one.finish_s > one.ask.deadline_s
            for one in self.chosen(priority)
        )

    def waits(self, priority: Priority | None = None) -> list[float]:
        """Return the times to start, of one class only if so asked."""
        return [one.wait_s for one in self.chosen(priority)]

    def finishes(self, priority: Priority | None = None) -> list[float]:
        return [one.finish_s for one in self.chosen(priority)]

    def chosen(self, priority: Priority | None) -> list[Issued]:
        return [one for one in self.served if not one.refused and priority in (None, one.priority)]

    def first_waits(self, models: Iterable[str] | None = None) -> list[float]:
        """Return, for every time a model was wanted and not there, the seconds until it served the first ask."""
        wanted = None if models is None else set(models)
        return [seconds for model, seconds in self.tally.first_waits if wanted is None or model in wanted]
