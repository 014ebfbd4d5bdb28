"""Which models are asked at all: after errors in a row a breaker opens, and what it guards is tried again later.

A breaker is closed, open, or half open: then one ask is let through to see (Nygard, Release It!, 2nd edition, section
5.2). Where we differ: errors count by incident and not by ask, so that the ten streams one dead worker takes with it
are one error; and the wait doubles each time the trial fails. In memory, and nothing here waits.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from studium.errors import CallerError, EngineTimeout, SpendingLimit, StudiumError

ERRORS_IN_A_ROW = 3
TRY_AGAIN_S = 10.0
LONGEST_WAIT_S = 300.0
TRIAL_S = 60.0
"""A trial nobody told the end of (its caller left) is forgotten after this long."""


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one model's health. Times are in `time.monotonic` seconds, None: never.

    `in_a_row` are errors since the last reply; `degraded` says in words why its answers are not what they should be.
    """

    model: str
    state: State = State.CLOSED
    in_a_row: int = 0
    errors: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    opened_at: float | None = None
    wait_s: float = TRY_AGAIN_S
    trial_at: float | None = None
    degraded: str = ""


class Breakers:
    """The breakers of all models, by the model's name."""

    def __init__(
        self,
        *,
        errors: int = ERRORS_IN_A_ROW,
        try_again_s: float = TRY_AGAIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._errors = errors
        self._try_again_s = try_again_s
        self._clock = clock
        self._known: dict[str, Health] = {}
        self.replies: Counter[str] = Counter()

    def admits(self, model: str) -> bool:
        """Say whether a model may be asked now; who is told so of a half open one is its trial."""
        known = self._known.get(model)
        if known is None or known.opened_at is None:
            return True
        now = self._clock()
        waits = now < known.opened_at + known.wait_s
        on_trial = known.trial_at is not None and now < known.trial_at + TRIAL_S
        if waits or on_trial:
            return False
        self._known[model] = replace(known, state=State.HALF_OPEN, trial_at=now)
        return True

    def replied(self, model: str) -> None:
        """A model gave a whole reply: all is well."""
        self.replies[model] += 1
        known = self._known.get(model)
        if known is not None and (known.in_a_row or known.opened_at is not None):
            self._known[model] = replace(
                known, state=State.CLOSED, in_a_row=0, opened_at=None, wait_s=self._try_again_s, trial_at=None
            )

    def failed(self, model: str, error: StudiumError, began: float) -> None:
        """An ask that `began` at that time failed, and it `counts`."""
        now = self._clock()
        known = self._known.get(model) or Health(model, wait_s=self._try_again_s)
        known = replace(known, errors=known.errors + 1, last_error=str(error))
        if known.last_error_at is None or began >= known.last_error_at:  # else it fell with others
            known = replace(known, in_a_row=known.in_a_row + 1, last_error_at=now)
        if known.trial_at is not None and began >= known.trial_at:
            wait_s = min(2 * known.wait_s, LONGEST_WAIT_S)
            known = replace(known, state=State.OPEN, opened_at=now, trial_at=None, wait_s=wait_s)
        elif known.opened_at is None and known.in_a_row >= self._errors:
            known = replace(known, state=State.OPEN, opened_at=now)
        self._known[model] = known

    def judge(self, model: str, degraded: str) -> None:
        """Note why a model's answers are not what they should be; "" where they are."""
        known = self._known.get(model) or Health(model, wait_s=self._try_again_s)
        self._known[model] = replace(known, degraded=degraded)

    def health(self) -> Mapping[str, Health]:
        """Return what is known of every model that ever failed or was judged."""
        return dict(self._known)


def is_loss(error: StudiumError, *, seated: bool) -> bool:
    """Say whether an error is the model's or its engine's, so that another may answer in its place.

    What the caller is told of a model that was loaded is his own affair; that it cannot be loaded is not.
    """
    return not isinstance(error, SpendingLimit) and not (seated and isinstance(error, CallerError))


def counts(error: StudiumError, *, seated: bool) -> bool:
    """Say whether an error counts against the model: one that waited in vain for its seat met a busy machine."""
    return is_loss(error, seated=seated) and (seated or not isinstance(error, EngineTimeout))
