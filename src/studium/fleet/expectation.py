"""What somebody knows of the questions to come: told to the fleet, which loads ahead and keeps what is expected."""

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from studium.fleet.residency import Residency
from studium.records.models import Student


class Coming(NamedTuple):
    """A student that will be asked `in_s` seconds from now, with `probability`."""

    student: Student
    in_s: float
    probability: float = 1.0


class Expectation:
    """One caller's forecast of its own asks, from `Fleet.expect`. End it with `withdraw`, or use `with`.

    It commits nobody: what was announced and does not come is forgotten a minute after it was due.
    """

    def __init__(self, residency: Residency, key: int) -> None:
        self._residency = residency
        self._key = key
        self._expects = False

    def change(self, coming: Sequence[Coming]) -> None:
        """Say what is to come now, instead of what was said before."""
        if not coming and not self._expects:
            return
        self._expects = bool(coming)
        self._residency.announce(
            self._key, [(one.student.model, max(0.0, one.in_s), one.probability) for one in coming]
        )

    def withdraw(self) -> None:
        """Expect nothing more; a load that only this caller wanted is stopped."""
        self.change(())

    def __enter__(self) -> "Expectation":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.withdraw()
