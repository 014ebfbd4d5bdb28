"""Clocks that a test sets: the true time, the time since boot, and a wall clock that may be wrong."""

from studium.store.ledger_time import Reading


class Clocks:
    """`true_s` is what really passed since the test began."""

    def __init__(self) -> None:
        self.true_s = 0.0
        self._boots = 1
        self._booted_at_s = -100.0
        self._wrong_by_s = 0.0

    def __call__(self) -> Reading:
        return Reading(
            f"boot {self._boots}", self.true_s - self._booted_at_s, 1e9 + self.true_s + self._wrong_by_s
        )

    def passes(self, seconds: float) -> None:
        self.true_s += seconds

    def is_set(self, by_s: float) -> None:
        """Set the wall clock forward or back."""
        self._wrong_by_s += by_s

    def reboots(self, off_s: float) -> None:
        """Reboot; the wall clock is right when it is up again."""
        self.true_s += off_s
        self._boots += 1
        self._booted_at_s, self._wrong_by_s = self.true_s - 3.0, 0.0
