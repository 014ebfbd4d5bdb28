"""An endless walk through rows, the same for every process that knows the seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

AnyRow = TypeVar("AnyRow")


@dataclass
class Passes(Generic[AnyRow]):
    """Walks through rows, shuffled anew for each pass; its place is one number, so it resumes exactly."""

    rows: Sequence[AnyRow]
    seed: int
    place: int = 0
    _lap: int = -1
    _order: Sequence[int] = field(default_factory=tuple[int, ...])

    def take(self, number: int) -> list[AnyRow]:
        """Return the next `number` rows; none where there are no rows."""
        taken = [self._at(self.place + at) for at in range(number if self.rows else 0)]
        self.place += len(taken)
        return taken

    def _at(self, place: int) -> AnyRow:
        lap, position = divmod(place, len(self.rows))
        if lap != self._lap:
            self._lap = lap
            self._order = Random(f"{self.seed}/{lap}").sample(range(len(self.rows)), len(self.rows))
        return self.rows[self._order[position]]
