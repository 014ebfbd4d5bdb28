"""What a run's watchers look for, before a step changes weights: each finding comes with advice and an action."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from studium.train.config import Watch


class Action(StrEnum):
    """What is done about an alarm: only said, the step left out, the rate lowered as well, the run stopped."""

    ADVISE = "advise"
    SKIP = "skip"
    LOWER = "lower"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Alarm:
    kind: str
    advice: str
    action: Action


class Watchers:
    """All watchers of a run, with what they remember."""

    def __init__(self, settings: Watch) -> None:
        self._settings = settings

    def look(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        """Return the gravest alarm of a step, None where all is well."""
        broken = next((name for name, value in metrics.items() if not isfinite(value)), None)
        if broken is not None:
            return Alarm(
                "not-finite", f"{broken} is {metrics[broken]}: lower the rate, look at the rows", Action.STOP
            )
        return None

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass
