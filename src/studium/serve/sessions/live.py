"""What goes on in a session at this moment, for those who watch: kept in memory, told in `status.json`."""

import time
from dataclasses import dataclass, field
from typing import Any

from studium.records.sessions import Turn
from studium.serve.sessions.folder import SessionFolder, write_json

Json = dict[str, Any]


@dataclass(slots=True)
class Speaker:
    """A student at work. `pieces` counts what came so far, about one token each."""

    model: str
    since: float
    seated: float | None = None
    pieces: int = 0


@dataclass(slots=True)
class Live:
    """The moment. Times are in `time.time` seconds."""

    phase: str = "starting"
    cycle: int = 0
    active_seconds: float = 0.0
    cycle_seconds: float = 0.0
    room_bytes: int = 0
    room_source: str = ""
    reserved_bytes: int = 0
    resident: list[str] = field(default_factory=list[str])
    speaking: dict[str, Speaker] = field(default_factory=dict[str, Speaker])
    queue: list[Turn] = field(default_factory=list[Turn])
    hardware: Json = field(default_factory=dict[str, Any])
    slow: str = ""

    def told(self) -> Json:
        """Return the moment as JSON types."""
        now = time.time()
        return {
            "at": now,
            "phase": self.phase,
            "cycle": self.cycle,
            "active_seconds": self.active_seconds,
            "cycle_seconds": self.cycle_seconds,
            "budget_bytes": self.room_bytes,
            "budget_source": self.room_source,
            "reserved_bytes": self.reserved_bytes,
            "resident": self.resident,
            "running": [_speaker(name, one, now) for name, one in self.speaking.items()],
            "queue": [{"student": turn.student, "reason": turn.reason} for turn in self.queue],
            "hardware": self.hardware,
        }

    def write(self, folder: SessionFolder) -> None:
        """Write the moment down. Raises OperatorError."""
        write_json(folder.status, self.told())


def _speaker(name: str, one: Speaker, now: float) -> Json:
    speaking_s = now - one.seated if one.seated is not None else 0.0
    return {
        "student": name,
        "model": one.model,
        "waiting": one.seated is None,
        "seconds": now - one.since,
        "tokens": one.pieces,
        "tokens_per_second": one.pieces / speaking_s if speaking_s > 0 else None,
    }
